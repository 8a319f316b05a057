"""Fixtures of many folders' tests, of both sides; tests/conftest.py registers them."""

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightly.io.paths import Paths
from tests.support.data import COMPLAINTS
from tests.support.receivers import web_server


def project(patch: pytest.MonkeyPatch, var: Path) -> Paths:
    """Name `var` as the project's in the environment, without a model server."""
    patch.setenv("NIGHTLY_VAR", str(var))
    for name in ("REST", "GRPC"):
        patch.delenv(f"NIGHTLY_SERVING_{name}", raising=False)
    return Paths.from_environment()


OURS = ("nightly", "nightly.sources", "nightly.sources.files.listing")


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """Leave the project's log levels as they are: bin/new raises them for its process."""
    levels = {name: logging.getLogger(name).level for name in OURS}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The empty paths of a project without a model server."""
    return project(monkeypatch, tmp_path / "var")


@pytest.fixture(scope="module")
def module_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """The same for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield project(patch, tmp_path_factory.mktemp("var"))


@pytest.fixture(scope="session")
def complaints() -> Path:
    """The CSV of consumer complaints, which is not part of the repository."""
    if not COMPLAINTS.exists():
        pytest.skip(f"{COMPLAINTS} is not here")
    return COMPLAINTS


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of one warm host for all tests: TensorFlow is imported once."""
    return {"NIGHTLY_RUN": str(tmp_path_factory.mktemp("run")), "NIGHTLY_HOST_IDLE_SECONDS": "60"}


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """A receiver of Slack's messages, and Airflow's connection to it; yields what it has received."""
    with web_server() as (url, received):
        connection = {"conn_type": "slackwebhook", "password": f"{url}/services/T0/B0/secret"}
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_SLACK", json.dumps(connection))
        yield received


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 80 MB."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system could not be mounted: {done.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A small disk without a free byte, in which empty files and folders can still be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk to fill it")
    place = tmp_path / "full"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]).returncode:
        pytest.skip("nothing can be mounted here, as in a container without privileges")
    try:
        with pytest.raises(OSError, match="No space left"), open(place / "filler", "ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
