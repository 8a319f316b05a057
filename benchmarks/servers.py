"""A PostgreSQL server and an S3 server on this machine, for benchmarks of sources."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from adbc_driver_postgresql import dbapi

from local.airflow import free_port
from local.child import Child
from nightly.records.connection import Connection

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
NOBODY = "nobody"  # PostgreSQL refuses to run as root
START_SECONDS = 60
KEYS = {"login": "benchmark", "password": "benchmark"}


@contextmanager
def postgresql(folder: Path) -> Iterator[Connection]:
    """Run a server with its data in `folder`, and yield how to reach it."""
    if POSTGRES is None:
        raise RuntimeError("PostgreSQL is missing: install Debian's package postgresql")
    folder.mkdir(parents=True)
    as_user = []
    if os.geteuid() == 0:
        as_user = ["setpriv", f"--reuid={NOBODY}", "--regid=nogroup", "--clear-groups"]
        for parent in (folder, *folder.parents[:3]):  # `nobody` must get through
            if parent != Path("/tmp"):
                parent.chmod(0o755)
        shutil.chown(folder, NOBODY)
    initdb = [*as_user, POSTGRES / "initdb", f"--pgdata={folder}/data", "--no-sync", "--encoding=UTF8", "--auth=trust"]
    subprocess.run([*initdb, "--username=benchmark"], cwd="/", check=True, capture_output=True)
    port = free_port()
    command = [*as_user, str(POSTGRES / "postgres"), "-D", f"{folder}/data", f"--port={port}"]
    command += ["--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"]
    server = Child(command, folder.with_suffix(".log"), dict(os.environ))
    connection = Connection(conn_type="postgres", host="127.0.0.1", port=port, database="postgres", **KEYS)
    try:
        if not server.wait_for(lambda: _answers(lambda: dbapi.connect(uri(connection)).close()), START_SECONDS):
            raise RuntimeError(f"PostgreSQL did not start: {server.last_lines(20)}")
        yield connection
    finally:
        server.stop()


def uri(connection: Connection) -> str:
    """Return the address of a PostgreSQL server of this module for a driver."""
    return f"postgresql://{connection.login}@{connection.host}:{connection.port}/{connection.database}"


@contextmanager
def s3(folder: Path, bucket: str) -> Iterator[Connection]:
    """Run a server with an empty bucket, which it keeps in memory, and yield how to reach it."""
    port = free_port()
    server = Child([sys.executable, "-m", "moto.server", "-p", str(port)], folder / "s3.log", dict(os.environ))
    extra = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    connection = Connection(conn_type="aws", **KEYS, extra=extra)
    try:
        client = s3_client(connection)
        if not server.wait_for(lambda: _answers(lambda: client.create_bucket(Bucket=bucket)), START_SECONDS):
            raise RuntimeError(f"moto did not start: {server.last_lines(20)}")
        yield connection
    finally:
        server.stop()


def s3_client(connection: Connection) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=connection.extra["endpoint_url"],
        region_name=connection.extra["region_name"],
        aws_access_key_id=connection.login,
        aws_secret_access_key=connection.password.get_secret_value(),
    )


def _answers(ask) -> bool:
    try:
        ask()
    except Exception:
        return False
    return True
