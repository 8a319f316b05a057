"""A model server of releases, which several folders' tests release to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live_server
from tests.support.live_server import LiveServer
from tests.support.postgresql import Database, running_database
from tests.support.s3_server import S3Server
from tests.support.servers import Server
from tests.support.two_hosts import TwoHosts, two_hosts


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good1 to good4, wrong, slow and broken: see live_server.exports()."""
    return live_server.exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def server_processes() -> Iterator[list[Server]]:
    """The server that the last module left running, if any: starting one costs TensorFlow's import."""
    left: list[Server] = []
    yield left
    for server in left:
        assert server.stop() == 0, "".join(server.log)[-4000:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_processes: list[Server]) -> Iterator[LiveServer]:
    """A LiveServer over the empty var/ of a project of the module's own, and the environment that names both."""
    before = dict(os.environ)
    live = LiveServer(tmp_path_factory.mktemp("live"), server_processes.pop() if server_processes else None)
    try:
        yield live
        live.close()
        server_processes += [live.server] if live.server.process.poll() is None else []
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A PostgreSQL server, for the locks between hosts and for ML Metadata."""
    with running_database("secret") as running:  # ML Metadata takes no password with a space
        yield running


@pytest.fixture(scope="session")
def buckets() -> Iterator[S3Server]:
    """An S3 server."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def hosts(tmp_path: Path, buckets: S3Server, database: Database) -> Iterator[TwoHosts]:
    """Two hosts with a state of their own in a bucket."""
    with two_hosts(tmp_path, buckets, database) as running:
        yield running
