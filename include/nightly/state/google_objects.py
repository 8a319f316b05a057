"""Objects in Google Cloud Storage, by Google's own client, whose API is the only one that the emulator knows.

Credentials are the application's default ones (GOOGLE_APPLICATION_CREDENTIALS, or the machine's role).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import requests
from google.api_core.exceptions import (
    GoogleAPIError,
    NotFound,
    PreconditionFailed,
    RetryError,
    ServerError,
    TooManyRequests,
)
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption

from nightly.state.errors import (
    MissingObjectError,
    PreconditionFailedError,
    StateNotReachedError,
    StateRefusedError,
)
from nightly.state.objects import NO_CREDENTIALS, Calls, Entry, Object

SECONDS = 60  # of silence
PASSING = (ServerError, TooManyRequests, RetryError, TransportError, DataCorruption, requests.RequestException)


class GoogleObjects(Calls):
    """See nightly.state.objects.Objects. An etag is an object's generation."""

    def __init__(self, address: str, bucket: str, prefix: str, patience: float | None) -> None:
        self.address = address
        super().__init__(patience)
        self._seconds = SECONDS if patience is None else patience
        self._prefix = f"{prefix}/" if prefix else ""
        try:
            self._client = storage.Client()
        except (GoogleAuthError, OSError) as error:
            raise StateRefusedError(
                f"{address}: the environment has no credentials of Google ({type(error).__name__}); "
                "set GOOGLE_APPLICATION_CREDENTIALS."
            ) from None
        self._bucket = self._client.bucket(bucket)
        self._is_there = False

    def get(self, key: str) -> Object | None:
        def get() -> Object:
            blob = self._blob(key)
            data = blob.download_as_bytes(timeout=self._seconds, retry=None)
            try:  # a download tells the generation only
                blob.reload(timeout=self._seconds, retry=None)
            except NotFound:  # of that generation: since then another host has replaced the object, or deleted it
                raise StateNotReachedError(f"{self.address}/{key} changed while it was read; try again.") from None
            return Object(data, str(blob.generation), blob.updated)

        return self._or_none(key, get)

    def head(self, key: str) -> Entry | None:
        def head() -> Entry | None:
            blob = self._bucket.get_blob(self._prefix + key, timeout=self._seconds, retry=None)
            return self._entry(blob) if blob else None

        return self._or_none(key, head)

    def put(self, key: str, data: bytes) -> str:
        return self._write(key, data, None)

    def create(self, key: str, data: bytes) -> str:
        return self._write(key, data, 0)

    def swap(self, key: str, data: bytes, etag: str) -> str:
        return self._write(key, data, int(etag))

    def delete(self, key: str) -> None:
        self._or_none(key, lambda: self._blob(key).delete(timeout=self._seconds, retry=None))

    def list(self, prefix: str) -> list[Entry]:
        def listed() -> list[Entry]:
            whole = f"{self._prefix}{prefix.rstrip('/')}/" if prefix else self._prefix
            blobs = self._client.list_blobs(self._bucket, prefix=whole, timeout=self._seconds, retry=None)
            return [self._entry(blob) for blob in blobs]

        return self._call(prefix, listed)

    def upload(self, key: str, path: Path) -> None:
        options = {"timeout": self._seconds, "retry": None, "checksum": "crc32c"}
        self._call(key, lambda: self._blob(key).upload_from_filename(str(path), **options))

    def download(self, key: str, path: Path) -> str | None:
        def download() -> str:
            with path.open("wb") as file:
                hashing = _Hashing(file)
                self._blob(key).download_to_file(hashing, timeout=self._seconds, retry=None)
            return hashing.digest.hexdigest()

        return self._or_none(key, download)

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket.blob(self._prefix + key)

    def _entry(self, blob: storage.Blob) -> Entry:
        return Entry(blob.name.removeprefix(self._prefix), str(blob.generation), blob.size, blob.updated)

    def _write(self, key: str, data: bytes, generation: int | None) -> str:
        def write() -> str:
            blob = self._blob(key)
            blob.upload_from_string(data, if_generation_match=generation, timeout=self._seconds, retry=None)
            return str(blob.generation)

        return self._call(key, write)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except PreconditionFailed:
            raise PreconditionFailedError(f"{self.address}/{key} was changed by another host.") from None
        except NotFound:
            if not self._exists():
                raise StateRefusedError(f"{self.address}: the bucket does not exist; NIGHTLY_STATE names it.") from None
            raise MissingObjectError(f"{self.address}/{key} does not exist.") from None
        except (GoogleAPIError, GoogleAuthError, DataCorruption, requests.RequestException) as error:
            if isinstance(error, RefreshError) and (error.retryable or isinstance(error.__cause__, TransportError)):
                raise StateNotReachedError(NO_CREDENTIALS.format(self.address, type(error).__name__)) from None
            if isinstance(error, PASSING) or getattr(error, "code", None) == HTTPStatus.REQUEST_TIMEOUT:
                raise StateNotReachedError(
                    f"{self.address} does not answer ({type(error).__name__}); try again when it can be reached."
                ) from None
            raise StateRefusedError(
                f"{self.address}: the store refuses the environment's credentials ({type(error).__name__}); "
                "docs/how-to/many-hosts.md lists the variables."
            ) from None

    def _exists(self) -> bool:
        """Return whether the bucket exists, which the store's answer for a missing object does not tell."""
        try:
            if not self._is_there:
                list(self._client.list_blobs(self._bucket, max_results=1, timeout=self._seconds, retry=None))
                self._is_there = True
        except NotFound:
            return False
        except (GoogleAPIError, GoogleAuthError, requests.RequestException):
            return True
        return True


class _Hashing:
    """A file to write to, and the hash of what the store sent: a reader's faulty disk is not the blob's fault."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)
