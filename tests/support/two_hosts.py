"""Two hosts that share a bucket and a database, and no disk.

NIGHTLY_VAR has the same path on both, so one at a time is there: the other one's folder has another name meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from nightly.io.paths import Paths
from nightly.state import current
from tests.support.fixtures import project
from tests.support.postgresql import Database
from tests.support.s3_server import S3Server

BUCKET = "lake"


class TwoHosts:
    """The hosts "A" and "B". A test begins on A.

    :ivar prefix: of the state's objects in the bucket
    """

    def __init__(self, patch: pytest.MonkeyPatch, var: Path, server: S3Server, database: Database) -> None:
        self.var, self.prefix, self.host = var, var.parent.name, ""
        self.objects = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="hidden",
        )
        patch.setenv("NIGHTLY_STATE", f"s3://{BUCKET}/{self.prefix}")
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        patch.setenv("NIGHTLY_METADATA_DB", database.url("mlmd"))
        project(patch, var)
        self.on("A")

    def on(self, host: str) -> None:
        """Be on this host from now on."""
        if host == self.host:
            return
        if self.host and self.var.exists():
            self.var.rename(self._folder(self.host))
        if self._folder(host).exists():
            self._folder(host).rename(self.var)
        self.host = host
        forget_state()

    def lose(self, host: str) -> None:
        """Have everything on the host's disk gone."""
        shutil.rmtree(self.var if host == self.host else self._folder(host), ignore_errors=True)
        forget_state()

    @contextmanager
    def session(self, host: str, model: str = "taxi") -> Iterator[Paths]:
        """Be on the host, in a session of a task there."""
        self.on(host)
        with current().session(model) as paths:
            yield paths

    def keys(self, below: str) -> list[str]:
        """Return the names of the objects below a prefix of the state."""
        pages = self.objects.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/{below}")
        return [item["Key"].removeprefix(f"{self.prefix}/") for page in pages for item in page.get("Contents", ())]

    def change(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Replace an object's bytes behind everyone's back."""
        where = {"Bucket": BUCKET, "Key": f"{self.prefix}/{key}"}
        data = self.objects.get_object(**where)["Body"].read()
        self.objects.put_object(**where, Body=change(data))

    def _folder(self, host: str) -> Path:
        return self.var.with_name(f"{self.var.name}-of-{host}")


def forget_state() -> None:
    """Have this process know nothing of the state's copies on the host that it was on."""
    sys.modules[current.__module__]._bucket.cache_clear()


@contextmanager
def two_hosts(folder: Path, server: S3Server, database: Database) -> Iterator[TwoHosts]:
    """Two hosts whose bucket is empty.

    :param folder: for their disks; its name, which no other test has, is the prefix of the state
    """
    with pytest.MonkeyPatch.context() as patch:
        yield TwoHosts(patch, folder / "var", server, database)
        forget_state()


def damage(path: Path) -> None:
    """Change a bit of the file as a disk does it: with the same inode and times."""
    times = path.stat()
    with path.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(flip(content))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip(data: bytes) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:-1] + bytes([data[-1] ^ 1])
