"""A MariaDB server of our own, without accounts."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pymysql
import pytest

from local.airflow import free_port
from local.child import Child
from nightly.records.connection import Connection

START_SECONDS = 60


@contextmanager
def running_mariadb() -> Iterator[Connection]:
    """The connection to a server with an empty database; the test is skipped where MariaDB is not installed."""
    server = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if server is None:
        pytest.skip("there is no MariaDB server (Debian's mariadb-server-core)")
    folder = Path(tempfile.mkdtemp(prefix="nightly-mariadb-"))  # the path of a socket is short
    port = free_port()
    command = [server, "--no-defaults", f"--basedir={Path(server).parents[1]}", f"--datadir={folder}/data"]
    command += ["--skip-grant-tables", "--skip-networking=0", "--bind-address=127.0.0.1", f"--port={port}"]
    command += [f"--socket={folder}/socket", *(["--user=root"] if os.geteuid() == 0 else [])]
    (folder / "data").mkdir()
    child = Child(command, folder / "server.log", dict(os.environ))
    try:
        _create_database(port, child)
        yield Connection(conn_type="mysql", host="127.0.0.1", port=port, login="root", schema="shop")
    finally:
        child.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(port: int, child: Child) -> None:
    connect = partial(pymysql.connect, host="127.0.0.1", port=port, user="root")

    def answers() -> bool:
        try:
            connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    if not child.wait_for(answers, START_SECONDS):
        raise RuntimeError(f"MariaDB did not start: {child.last_lines(20)}")
    with connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
