"""One server for most tests: starting one costs TensorFlow's import."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, half_plus, list_of, model_config, release, shapes


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """add<N>: y = x / 2 + N; slow: add 2, slowly below 0; shapes; broken: no SavedModel."""
    folder = tmp_path_factory.mktemp("exports")
    for add in (1, 2, 3, 4, 5, 6):
        half_plus(folder / f"add{add}", add)
    half_plus(folder / "slow", 2, slow=True)
    shapes(folder / "shapes")
    (folder / "broken").mkdir()
    (folder / "broken" / "saved_model.pb").write_bytes(b"this is no model")
    return folder


@pytest.fixture(scope="session")
def base(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The configuration of the two models that every server here has: half_plus_two (version 123) and shapes (1)."""
    folder = tmp_path_factory.mktemp("base")
    for name, export, version in (("half_plus_two", "add2", 123), ("shapes", "shapes", 1)):
        (folder / name).mkdir()
        release(exports / export, folder / name, version)
    return [model_config(name, folder / name) for name in ("half_plus_two", "shapes")]


@pytest.fixture(scope="session")
def server(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without batching; configured by file once, then by reload requests."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models.config").write_text(list_of(*base))
    (folder / "monitoring.config").write_text('prometheus_config { enable: true path: "/metrics" }')
    started = Server(
        f"--model_config_file={folder}/models.config",
        f"--monitoring_config_file={folder}/monitoring.config",
        fork=False,
    ).wait_ready()
    yield started
    assert started.stop() == 0, "".join(started.log)[-4000:]
