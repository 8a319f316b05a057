"""Hosts that share no disk and release to one bucket: a real S3 server, and a PostgreSQL server for the locks."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightly.io.paths import Paths
from nightly.release.store import ReleaseStore
from nightly.state import current
from tests.support import object_stores
from tests.support.forks import FORKS
from tests.support.object_stores import ObjectStore
from tests.support.postgresql import running_database

current_module = sys.modules["nightly.state.current"]  # the package has a function of this name


@contextmanager
def bucket_and_locks() -> Iterator[tuple[ObjectStore, dict[str, str]]]:
    """Yield the S3 server, and the environment of a host that uses it, without NIGHTLY_STATE."""
    with object_stores.s3() as server, running_database() as database:
        yield (
            server,
            {
                "NIGHTLY_METADATA_DB": database.url("postgres"),
                "AWS_ENDPOINT_URL": server.address,
                "AWS_ACCESS_KEY_ID": "worker",
                "AWS_SECRET_ACCESS_KEY": "planted-secret",
                "AWS_REGION": "us-east-1",
            },
        )


def in_processes(work: Callable[..., object], *calls: tuple[Any, ...]) -> None:
    """Call `work` once with each of the arguments, at the same time, each in a process of another host."""
    environment = {name: value for name, value in os.environ.items() if name != "NIGHTLY_SESSION"}
    processes = [FORKS.Process(target=_call, args=(environment, work, arguments)) for arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(calls)


def _call(environment: dict[str, str], work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)


@dataclass(frozen=True)
class SharedReleases:
    """One bucket, and hosts with a folder each below `folder`."""

    address: str
    folder: Path

    @contextmanager
    def session(self, host: str = "a", model: str = "taxi") -> Iterator[Paths]:
        """Work in a session on a host, as a task does."""
        with self.on(host), current().session(model) as paths:
            yield paths

    @contextmanager
    def store(self, host: str = "a", model: str = "taxi") -> Iterator[ReleaseStore]:
        with self.session(host, model) as paths:
            yield ReleaseStore(paths.serving, paths.releases, model)

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """Run the block on a host: its folder is another, and so is what this process keeps of the state."""
        var = self.folder / host
        var.mkdir(parents=True, exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(os.environ, "NIGHTLY_STATE", self.address)
            patch.setitem(os.environ, "NIGHTLY_VAR", str(var))
            current_module._bucket.cache_clear()
            yield
        current_module._bucket.cache_clear()
