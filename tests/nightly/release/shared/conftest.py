"""Hosts that share a bucket."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.object_stores import ObjectStore
from tests.support.releases import export
from tests.support.shared_releases import SharedReleases, bucket_and_locks

NUMBERS = count()


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    before = dict(os.environ)
    with bucket_and_locks() as (server, environment):
        os.environ.update(environment)
        yield server
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def hosts(bucket: ObjectStore, tmp_path: Path) -> Iterator[SharedReleases]:
    name = f"releases-{next(NUMBERS)}"
    bucket.put(f"{name}/other", b"not of the state")
    yield SharedReleases(f"s3://{name}/state", tmp_path)
    bucket.faults.clear()
    bucket.requests.clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return export(tmp_path / "export")
