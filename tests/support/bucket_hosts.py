"""Fixtures of a bucket, and of hosts that share no disk: each has the same paths, one after the other."""

import itertools
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.support import object_stores
from tests.support.object_stores import ObjectStore

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    with object_stores.s3() as server:
        yield server


@pytest.fixture
def bucket(s3_server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, and the environment of a host with an empty bucket there."""
    name = f"nights-{next(NUMBERS)}"
    s3_server.put(f"{name}/other", b"")
    monkeypatch.setenv("NIGHTLY_STATE", f"s3://{name}/state")
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "worker")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return s3_server


@pytest.fixture
def move(tmp_path: Path) -> Callable[[str], None]:
    """Let what follows run on this host: its folder comes to the path that all hosts have."""
    var, here = tmp_path / "var", ["a"]

    def move(host: str) -> None:
        if var.exists():
            var.rename(tmp_path / f"var-{here[0]}")
        here[0] = host
        if (tmp_path / f"var-{host}").exists():
            (tmp_path / f"var-{host}").rename(var)
        import_module("nightly.state.current")._bucket.cache_clear()  # a new process

    return move
