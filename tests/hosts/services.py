"""What hosts share: Redis, and a bucket of an S3 server. PostgreSQL is in tests/support/postgresql.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from local.airflow import free_port
from local.child import Child
from tests.support.s3_server import S3Server

START_SECONDS = 60
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "hidden"}
BUSY = (503, "SlowDown", "Please reduce your request rate.")


class Bucket:
    """A bucket in an S3 server's process of its own."""

    def __init__(self) -> None:
        self._server = S3Server()
        self.url = self._server.url
        self.state = "s3://lake/state"
        self.client: Any = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **KEYS)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a host finds it."""
        return {
            "NIGHTLY_STATE": self.state,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            **{name.upper(): value for name, value in KEYS.items()},
        }

    def keys(self, below: str = "") -> list[str]:
        """The names of all objects below a folder of the state."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="lake", Prefix=f"state/{below}")
        return [entry["Key"].removeprefix("state/") for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        try:
            return bytes(self.client.get_object(Bucket="lake", Key=f"state/{key}")["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def write(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket="lake", Key=f"state/{key}", Body=body)

    def record(self, *path: str) -> Any:
        """A JSON record of the state, e.g. record("nights", "taxi", run, "verdict.json"); None if there is none."""
        body = self.read("/".join(("records", *path)))
        return None if body is None else json.loads(body)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Answer nobody, as a network that swallows packets."""
        os.kill(self._server._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server._process.pid, signal.SIGCONT)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse every request, as a store that is overloaded."""
        self._server.refuse(*BUSY)
        try:
            yield
        finally:
            self._server.answer()

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start a Redis server of Debian's package; yield its URL."""
    port = free_port()
    command = [redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    child = Child(command, folder / "redis.log", dict(os.environ))
    try:
        if not child.wait_for(lambda: "Ready to accept" in child.last_lines(20), START_SECONDS):
            raise RuntimeError(f"Redis did not start: {child.last_lines(20)}")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        child.stop()


def redis_server() -> str:
    """Return the program's path; install Debian's package if it is not there. Raises FileNotFoundError."""
    if not shutil.which("redis-server") and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "redis-server"]):
            subprocess.run(["apt-get", *words], env=quiet, capture_output=True, timeout=300)
    if path := shutil.which("redis-server"):
        return path
    raise FileNotFoundError("there is no redis-server, and apt-get cannot install it")
