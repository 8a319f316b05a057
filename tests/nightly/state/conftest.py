"""A bucket on a real server, and hosts that share no disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from nightly.state.bucket import BucketState
from tests.support import object_stores
from tests.support.object_stores import ObjectStore

NUMBERS = count()

Host = Callable[[str], "contextmanager"]


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectStore]:
    with object_stores.s3() as server:
        yield server


@pytest.fixture
def address(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """s3:// of a new, empty bucket, with a prefix, and the environment that reaches it."""
    bucket = f"state-{next(NUMBERS)}"
    s3.put(f"{bucket}/other/object", b"not of the state")
    for name, value in environment(s3, f"s3://{bucket}/a/prefix").items():
        monkeypatch.setenv(name, value)
    yield f"s3://{bucket}/a/prefix"
    s3.faults.clear()
    s3.requests.clear()


def environment(server: ObjectStore, address: str) -> dict[str, str]:
    return {
        "NIGHTLY_STATE": address,
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": "worker",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_REGION": "us-east-1",
    }


class Hosts:
    """Hosts of one bucket, each with a folder of its own."""

    def __init__(self, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address, self.folder, self.monkeypatch = address, folder, monkeypatch

    @contextmanager
    def on(self, name: str) -> Iterator[tuple[BucketState, Path]]:
        """Run the block on this host: yield its state and its NIGHTLY_VAR."""
        var = self.folder / name / "var"
        var.mkdir(parents=True, exist_ok=True)
        with self.monkeypatch.context() as patch:
            patch.setenv("NIGHTLY_VAR", str(var))
            yield BucketState(self.address), var


@pytest.fixture
def hosts(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(address, tmp_path, monkeypatch)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files, by their path in the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    """Return every file's content by its path in the folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
