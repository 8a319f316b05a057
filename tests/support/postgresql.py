"""A PostgreSQL server of our own with what docker-compose.yaml's service `postgres` begins with, on both sides."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from local.airflow import free_port
from local.child import Child
from nightly.io.paths import ROOT
from nightly.io.polling import poll

try:
    import psycopg2 as driver
except ModuleNotFoundError:  # the ML environment has another
    import adbc_driver_postgresql.dbapi as driver

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
USER = "nobody"  # PostgreSQL refuses to run as root
START_SECONDS = 60


class Database:
    """Its cluster, made in `folder`, and how to start and ask it.

    :param folder: of this server alone; as root it must be one that other users can enter
    """

    def __init__(self, folder: Path, password: str) -> None:
        self.user = COMPOSE["services"]["postgres"]["environment"]["POSTGRES_USER"]
        self.password = password
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        (folder / "password").write_text(password)
        as_user = []
        if os.geteuid() == 0:
            as_user = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"]
            shutil.chown(folder, USER)
            shutil.chown(folder / "password", USER)
        initdb = [*as_user, f"{POSTGRES}/initdb", f"--pgdata={folder}/data", "--no-sync", "--encoding=UTF8"]
        initdb += [f"--username={self.user}", f"--pwfile={folder}/password", "--auth=scram-sha-256"]
        done = subprocess.run(initdb, cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        host, port = self.address.split(":")
        self.command = [*as_user, f"{POSTGRES}/postgres", "-D", f"{folder}/data", f"--port={port}"]
        self.command += [f"--listen_addresses={host}", "--unix_socket_directories=", "--fsync=off"]

    @contextmanager
    def running(self) -> Iterator[Database]:
        """Start it with compose's two databases; stop it at the end."""
        child = Child(self.command, self.log, dict(os.environ))
        try:
            self.create_databases()
            yield self
        except driver.OperationalError as error:
            raise RuntimeError(f"PostgreSQL did not start: {child.last_lines(20)}") from error
        finally:
            child.stop()

    def create_databases(self) -> None:
        """Wait for the server, and make compose's two databases. Raises driver.OperationalError."""
        poll(self._answers, every=0.1, seconds=START_SECONDS)
        self.run("postgres", f"CREATE DATABASE {COMPOSE['services']['postgres']['environment']['POSTGRES_DB']}")
        self.run("postgres", COMPOSE["configs"]["metadata-database"]["content"])

    def _answers(self) -> bool:
        try:
            return bool(self.run("postgres", "SELECT 1"))
        except driver.OperationalError:
            return False

    def url(self, name: str) -> str:
        return f"postgresql://{self.user}:{quote(self.password, safe='')}@{self.address}/{name}"

    def run(self, name: str, command: str) -> list[tuple[Any, ...]]:
        """The rows that a command gives in the database of that name."""
        with closing(_connect(self.url(name))) as session, session.cursor() as cursor:
            cursor.execute(command)
            return cursor.fetchall() if cursor.description else []

    def load_csv(self, name: str, table: str, path: Path) -> None:
        """COPY a CSV file with a header into a table, which exists, of the database of that name."""
        host, port = self.address.split(":")
        psql = [f"{POSTGRES}/psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={name}"]
        psql += [f"--host={host}", f"--port={port}", f"--username={self.user}"]
        psql += ["--command", f"\\copy {table} FROM '{path}' WITH (FORMAT csv, HEADER)"]
        done = subprocess.run(psql, env=os.environ | {"PGPASSWORD": self.password}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@contextmanager
def running_database(password: str = "p@ss/w rd%20") -> Iterator[Database]:
    """A server in a folder of its own; the test is skipped where PostgreSQL is not installed."""
    import pytest  # the campaign of faults runs without it

    if POSTGRES is None:
        pytest.skip("there is no PostgreSQL server in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="nightly-postgresql-", dir="/tmp"))  # the tests' own are closed to others
    try:
        with Database(folder, password).running() as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def break_locks(url: str) -> None:
    """End the connections of all locks between hosts, as a failover of the database does."""
    with closing(_connect(url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightly'")
        assert cursor.fetchall()


def _connect(url: str) -> Any:
    if driver.__name__ != "psycopg2":
        return driver.connect(url, autocommit=True)
    session = driver.connect(url)
    session.autocommit = True
    return session
