"""Objects in S3, or a store that speaks its protocol, and in Azure Blob Storage, by obstore.

Endpoint and credentials come from the environment, by the names that obstore documents: AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_NAME, …; or from the machine's role.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import AzureStore, S3Store

from nightly.io.buckets import CLIENT, problem
from nightly.state.errors import (
    MissingObjectError,
    PreconditionFailedError,
    StateError,
    StateNotReachedError,
    StateRefusedError,
)
from nightly.state.objects import NO_CREDENTIALS, Calls, Entry, Object

STORES = {"s3": S3Store, "az": AzureStore}
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
# `Calls` does the rest: it also repeats writes, whose outcome the callers compare.
RETRIES: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
ONE_REQUEST_BYTES = 32 << 20  # larger files are uploaded in parts


class ObstoreObjects(Calls):
    """See nightly.state.objects.Objects."""

    def __init__(self, address: str, scheme: str, bucket: str, prefix: str, patience: float | None) -> None:
        self.address = address
        super().__init__(patience)
        plain = any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)
        client, retries = {**CLIENT, **({"allow_http": True} if plain else {})}, RETRIES
        if patience is not None:
            silence = f"{int(patience * 1000)}ms"
            client |= {"connect_timeout": silence, "read_timeout": silence}
            retries = {"max_retries": 0}
        try:
            self._store = STORES[scheme](bucket, prefix=prefix or None, client_options=client, retry_config=retries)
        except (exceptions.BaseError, ValueError) as error:
            raise StateRefusedError(
                f"{address}: the credentials in the environment are not valid ({type(error).__name__})."
            ) from None  # its message may quote credentials

    def get(self, key: str) -> Object | None:
        def get() -> Object:
            result = obstore.get(self._store, key)
            meta = result.meta
            return Object(bytes(result.bytes()), _etag(meta), meta["last_modified"])

        return self._or_none(key, get)

    def head(self, key: str) -> Entry | None:
        return self._or_none(key, lambda: _entry(obstore.head(self._store, key)))

    def put(self, key: str, data: bytes) -> str:
        return self._write(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> str:
        return self._write(key, data, "create")

    def swap(self, key: str, data: bytes, etag: str) -> str:
        return self._write(key, data, {"e_tag": f'"{etag}"'})

    def delete(self, key: str) -> None:
        self._or_none(key, lambda: obstore.delete(self._store, key))

    def list(self, prefix: str) -> list[Entry]:
        def listed() -> list[Entry]:
            return [_entry(meta) for batch in obstore.list(self._store, prefix, chunk_size=1000) for meta in batch]

        return self._or_none(prefix, listed) or []

    def upload(self, key: str, path: Path) -> None:
        def upload() -> None:
            if path.stat().st_size <= ONE_REQUEST_BYTES:
                obstore.put(self._store, key, path.read_bytes(), use_multipart=False)
            else:
                obstore.put(self._store, key, path, chunk_size=16 << 20, max_concurrency=4)

        self._call(key, upload)

    def download(self, key: str, path: Path) -> str | None:
        def download() -> str:
            digest = hashlib.sha256()
            with path.open("wb") as file:
                for chunk in obstore.get(self._store, key).stream(min_chunk_size=4 << 20):
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest()

        return self._or_none(key, download)

    def _write(self, key: str, data: bytes, mode: Any) -> str:
        result = self._call(key, lambda: obstore.put(self._store, key, data, mode=mode, use_multipart=False))
        return (result["e_tag"] or "").strip('"')

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's
            raise self._explanation(key, error) from None  # its own message may have a signed URL

    def _explanation(self, key: str, error: Exception) -> StateError:
        met = problem(error)
        if isinstance(error, exceptions.AlreadyExistsError) or met.kind == "replaced" or met.detail.startswith("409"):
            return PreconditionFailedError(f"{self.address}/{key} was changed by another host.")
        match met.kind:
            case "missing":
                return MissingObjectError(f"{self.address}/{key} does not exist.")
            case "no bucket":
                return StateRefusedError(f"{self.address}: the bucket does not exist; NIGHTLY_STATE names it.")
            case "region":
                return StateRefusedError(f"{self.address}: the bucket is in another region; set AWS_REGION.")
            case "credentials":
                return StateNotReachedError(NO_CREDENTIALS.format(self.address, met.detail))
            case "expired" | "keys" | "refused":
                return StateRefusedError(
                    f"{self.address}: the store refuses the environment's credentials ({met.detail}); "
                    "docs/how-to/many-hosts.md lists the variables."
                )
            case _:
                return StateNotReachedError(
                    f"{self.address} does not answer ({met.detail}); try again when it can be reached."
                )


def _etag(meta: Any) -> str:
    """Return the ETag without quotes, which Azure's lists leave out."""
    return (meta["e_tag"] or "").strip('"')


def _entry(meta: Any) -> Entry:
    return Entry(meta["path"], _etag(meta), meta["size"], meta["last_modified"])
