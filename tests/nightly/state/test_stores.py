"""Object stores: each on a real server. What is true of one is true of all."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pytest
from google.auth.compute_engine import Credentials, _metadata
from google.cloud import storage
from google.cloud.storage import Blob, Client
from obstore.exceptions import GenericError

from nightly.state import objects
from nightly.state.check import check
from nightly.state.errors import (
    PreconditionFailedError,
    StateAddressError,
    StateNotReachedError,
    StateRefusedError,
)
from nightly.state.objects import Object, Objects, open_objects
from nightly.state.sweep import sweep
from tests.nightly.state.conftest import Hosts, environment, write
from tests.support import object_stores
from tests.support.object_stores import ObjectStore
from tests.support.receivers import serving

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


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_stores.minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(params=["s3", "minio", "gs", "az"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Objects:
    fixtures = {"s3": "s3", "minio": "minio", "gs": "cloud_storage", "az": "azure"}
    server = request.getfixturevalue(fixtures[request.param])
    bucket = f"stores-{next(NUMBERS)}"
    server.put(f"{bucket}/a/prefixed", b"not below the prefix")
    variables = {
        "s3": lambda: environment(server, ""),
        "minio": lambda: environment(server, ""),
        "gs": dict,
        "az": lambda: {
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": object_stores.AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": server.address,
        },
    }[request.param]()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    scheme = {"minio": "s3"}.get(request.param, request.param)
    return open_objects(f"{scheme}://{bucket}/a/prefix")


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


@pytest.mark.parametrize("store", ["minio", "gs", "az"], indirect=True)  # moto compares, and then swaps
def test_of_many_who_swap_at_once_one_wins(store):
    etag = store.create("x", b"0")

    def swap(number: int) -> bool:
        try:
            store.swap("x", b"%d" % number, etag)
        except PreconditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, wins in enumerate(pool.map(swap, range(8))) if wins]
    assert store.get("x").data in {b"%d" % number for number in won}
    assert len(won) == 1


def test_a_content_and_a_session_on_two_hosts(store, tmp_path, monkeypatch):
    hosts = Hosts(store.address, tmp_path, monkeypatch)
    with hosts.on("a") as (state, var), state.session("taxi") as paths:
        write(paths.nights / "taxi/run", {"1.json": b"1"})
        state.publish(write(var / "snapshots/taxi/1", {"rows": b"rows" * 1000, "manifest.json": b"{}"}))
        state.objects.put(f"blobs/{'0' * 64}", b"of no manifest")
    with hosts.on("b") as (state, var), state.session("taxi") as paths:
        assert (paths.nights / "taxi/run/1.json").read_bytes() == b"1"
        write(paths.nights / "taxi/run", {"1.json": b"2"})
        state.fetch(var / "snapshots/taxi/1")
        assert (var / "snapshots/taxi/1/rows").read_bytes() == b"rows" * 1000
    with hosts.on("a") as (state, _):
        assert (state.view("taxi").nights / "taxi/run/1.json").read_bytes() == b"2"
    assert sweep(store, timedelta(0)).blobs == 1
    assert check(store, content=True).problems == []


@pytest.mark.parametrize("store", ["gs"], indirect=True)  # whose answer with the data has no time
def test_an_object_that_is_replaced_or_deleted_while_it_is_read(store, monkeypatch):
    reload = Blob.reload

    def reading(change: Callable[[], object]) -> Object | None:
        """Read the object, which another host changes after its data was read."""

        def reload_after_change(blob: Blob, **options: Any) -> None:
            monkeypatch.setattr(Blob, "reload", reload)
            change()
            blob.reload(**options)

        monkeypatch.setattr(Blob, "reload", reload_after_change)
        return store.get("x")

    store.put("x", b"1")
    assert reading(lambda: store.put("x", b"2")).data == b"2"
    assert reading(lambda: store.delete("x")) is None


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


def test_the_hash_of_a_download_is_not_that_of_a_faulty_disk(store, tmp_path: Path):
    store.put("blobs/x", b"rows" * 1000)
    (tmp_path / "disk").symlink_to("/dev/null")  # which keeps nothing
    assert store.download("blobs/x", tmp_path / "disk") == sha256(b"rows" * 1000).hexdigest()


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


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_store_that_accepts_and_says_nothing_is_not_waited_for_longer_than_asked(scheme, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "worker")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        store = open_objects(f"{scheme}://bucket/x", patience=0.5)
        for call in (lambda: store.get("key"), lambda: store.list("keys")):
            begin = time.monotonic()
            with pytest.raises(StateNotReachedError, match="does not answer"):
                call()
            assert time.monotonic() - begin < 5


def test_refused_credentials(s3, monkeypatch):
    s3.put("refusing/x", b"x")
    for name, value in environment(s3, "").items():
        monkeypatch.setenv(name, value)
    s3.faults.append({"code": "InvalidAccessKeyId"})
    with pytest.raises(StateRefusedError, match=r"refuses the environment's credentials \(InvalidAccessKeyId\)"):
        open_objects("s3://refusing").get("x")


@contextmanager
def answering(*statuses: int) -> Iterator[str]:
    """A server that answers each GET with the next of `statuses`, and then with 200 and a token; yields its address."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = b'{"access_token": "planted-secret", "expires_in": 3600, "token_type": "x", "email": "a@b"}'
            self.send_response(left.pop(0) if left else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(token)))
            self.end_headers()
            self.wfile.write(token)

        def log_message(self, *_: object) -> None: ...

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"127.0.0.1:{port}"


def test_the_credentials_of_a_machine_of_google_are_waited_for(cloud_storage, monkeypatch):
    def as_machine() -> Client:
        return Client("project", Credentials())

    cloud_storage.put("of-a-machine/x", b"x")
    monkeypatch.setattr(storage, "Client", as_machine)
    with answering(404, 404) as address:
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", address)
        assert open_objects("gs://of-a-machine").get("x").data == b"x"
    with answering(*[404] * 1000) as address:
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", address)
        with pytest.raises(StateNotReachedError, match=r"the machine's role gives none \(RefreshError\)"):
            open_objects("gs://of-a-machine", patience=0.5).get("x")


def test_a_request_that_took_cloud_storage_too_long_is_repeated(monkeypatch):
    with answering(408) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        assert open_objects("gs://bucket").list("x") == []


def test_the_credentials_of_a_machine_of_amazon_are_waited_for(s3, monkeypatch):
    silent = [GenericError("error sending request for url (http://169.254.169.254/latest/api/token)")] * 2
    real = obstore.get

    def get(*arguments: Any) -> Any:
        if silent:
            raise silent.pop()
        return real(*arguments)

    s3.put("of-a-machine/x", b"x")
    for name, value in environment(s3, "").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(obstore, "get", get)
    assert open_objects("s3://of-a-machine").get("x").data == b"x"
    silent += [GenericError("http://169.254.169.254/latest/api/token")] * 1000
    with pytest.raises(StateNotReachedError, match="the machine's role gives none"):
        open_objects("s3://of-a-machine", patience=0.5).get("x")


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "file:///tmp/x"])
def test_an_address_of_another_kind(address):
    with pytest.raises(StateAddressError, match="use a folder, or a bucket as s3://bucket/prefix"):
        open_objects(address)
