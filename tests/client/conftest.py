from collections.abc import Iterator

import pytest

from tests.support.servers import Server, half_plus, list_of, model_config, release, shapes


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """half_plus (y = x / 2 + N) with versions 1 and 2, N the version, labelled stable and canary; and shapes."""
    folder = tmp_path_factory.mktemp("client")
    for version in (1, 2):
        half_plus(folder / f"add{version}", version)
    shapes(folder / "export")
    for name, export, version in (("half_plus", "add1", 1), ("half_plus", "add2", 2), ("shapes", "export", 1)):
        (folder / "models" / name).mkdir(parents=True, exist_ok=True)
        release(folder / export, folder / "models" / name, version)
    both = "model_version_policy { latest { num_versions: 2 } }"
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    models = [model_config("shapes", folder / "models" / "shapes")]
    (folder / "models.config").write_text(
        list_of(model_config("half_plus", folder / "models" / "half_plus", both), *models)
    )
    started = Server(f"--model_config_file={folder}/models.config").wait_ready()
    started.models_config = list_of(model_config("half_plus", folder / "models" / "half_plus", both + labels), *models)
    yield started
    assert started.stop() == 0, "".join(started.log)[-4000:]
