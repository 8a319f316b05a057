"""Object stores: each on a real server. What is true of one is true of all."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from nightly.state import objects
from nightly.state.errors import (
    PreconditionFailedError,
    StateAddressError,
    StateNotReachedError,
    StateRefusedError,
)
from nightly.state.objects import Objects, open_objects
from tests.nightly.state.conftest import environment
from tests.support import object_stores
from tests.support.object_stores import ObjectStore

NUMBERS = count()
Make = Callable[[], Objects]


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_stores.azure(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="module")
def cloud_storage() -> Iterator[ObjectStore]:
    with object_stores.cloud_storage() as server:
        yield server


@pytest.fixture(params=["s3", "gs", "az"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Objects:
    fixtures = {"s3": "s3", "gs": "cloud_storage", "az": "azure"}
    server = request.getfixturevalue(fixtures[request.param])
    bucket = f"stores-{next(NUMBERS)}"
    server.put(f"{bucket}/a/prefixed", b"not below the prefix")
    variables = {
        "s3": lambda: environment(server, ""),
        "gs": dict,
        "az": lambda: {
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": object_stores.AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": server.address,
        },
    }[request.param]()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return open_objects(f"{request.param}://{bucket}/a/prefix")


def test_objects_are_created_swapped_and_deleted(store):
    assert store.get("x/y") is None
    assert store.head("x/y") is None
    first = store.create("x/y", b"1")
    with pytest.raises(PreconditionFailedError):
        store.create("x/y", b"2")
    assert (store.get("x/y").data, store.get("x/y").etag) == (b"1", first)
    second = store.swap("x/y", b"2", first)
    with pytest.raises(PreconditionFailedError):
        store.swap("x/y", b"3", first)
    assert store.get("x/y").data == b"2"
    assert store.get("x/y").etag == store.head("x/y").etag == second
    store.delete("x/y")
    store.delete("x/y")
    assert store.get("x/y") is None
    with pytest.raises(PreconditionFailedError):
        store.swap("x/y", b"3", second)


def test_lists_have_the_versions_and_sizes(store):
    etags = {f"x/{n}": store.put(f"x/{n}", b"1" * n) for n in range(1, 4)}
    store.put("xx/1", b"beside")
    listed = {entry.key: entry for entry in store.list("x")}
    assert {key: entry.etag for key, entry in listed.items()} == etags
    assert [listed[f"x/{n}"].bytes for n in range(1, 4)] == [1, 2, 3]
    assert store.swap("x/1", b"other", listed["x/1"].etag)
    assert store.list("nothing") == []


def test_files_are_uploaded_and_downloaded(store, tmp_path: Path):
    content = bytes(range(256)) * 4 * 40_000  # above the size of one request
    (tmp_path / "up").write_bytes(content)
    store.upload("blobs/x", tmp_path / "up")
    assert store.head("blobs/x").bytes == len(content)
    assert store.download("blobs/x", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    assert store.download("blobs/y", tmp_path / "no") is None


def test_a_bucket_that_does_not_exist_is_one_sentence(store):
    scheme = store.address.partition("://")[0]
    missing = open_objects(f"{scheme}://no-such-bucket/prefix")
    for call in (lambda: missing.create("x", b""), lambda: missing.list("x"), lambda: missing.get("x")):
        with pytest.raises(StateRefusedError, match="no-such-bucket/prefix: the bucket does not exist"):
            call()


def test_a_store_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "worker")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    with pytest.raises(StateNotReachedError, match="s3://bucket/x does not answer") as error:
        open_objects("s3://bucket/x").get("key")
    assert "planted-secret" not in str(error.value)


def test_refused_credentials(s3, monkeypatch):
    s3.put("refusing/x", b"x")
    for name, value in environment(s3, "").items():
        monkeypatch.setenv(name, value)
    s3.faults.append({"code": "InvalidAccessKeyId"})
    with pytest.raises(StateRefusedError, match=r"refuses the environment's credentials \(InvalidAccessKeyId\)"):
        open_objects("s3://refusing").get("x")


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "file:///tmp/x"])
def test_an_address_of_another_kind(address):
    with pytest.raises(StateAddressError, match="use a folder, or a bucket as s3://bucket/prefix"):
        open_objects(address)
