"""What the state needs of an object store: whole objects, conditional writes, and lists.

Keys are relative to the address's prefix. Each call is tried again while the store does not answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from nightly.state.errors import MissingObjectError, StateAddressError, StateNotReachedError

RETRY_SECONDS = 180  # a bucket may be out of reach for a minute or two
SCHEMES = ("s3", "gs", "az")
# Of an error that may pass: the machine's role may be silent for a while, as the store itself.
NO_CREDENTIALS = (
    "{}: the environment has no credentials, and the machine's role gives none ({}); docs/how-to/many-hosts.md lists "
    "the variables."
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """An object in a list.

    :ivar etag: its version: an ETag without quotes, or Cloud Storage's generation
    """

    key: str
    etag: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Object:
    """An object's content and version."""

    data: bytes
    etag: str
    modified: datetime


class Objects(Protocol):
    """A bucket, or a prefix in it.

    All methods raise StateNotReachedError when the store does not answer, and StateRefusedError.
    """

    address: str

    def get(self, key: str) -> Object | None: ...

    def head(self, key: str) -> Entry | None: ...

    def put(self, key: str, data: bytes) -> str:
        """Write the object, whether or not it exists; return its etag."""
        ...

    def create(self, key: str, data: bytes) -> str:
        """Write the object and return its etag. Raises PreconditionFailedError if it exists."""
        ...

    def swap(self, key: str, data: bytes, etag: str) -> str:
        """Replace the version `etag`, and return the new etag. Raises PreconditionFailedError if it is another."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""
        ...

    def list(self, prefix: str) -> list[Entry]:
        """Return all objects below `prefix`, a folder's name."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Write a file's content to the object. A failed upload leaves nothing visible."""
        ...

    def download(self, key: str, path: Path) -> str | None:
        """Write the object to a new file, and return the SHA-256 of what the store sent.

        Return None if there is no such object; there may be an empty file then.
        """
        ...


class Calls(ABC):
    """Calls of a store's client, each tried again while it raises StateNotReachedError.

    :param patience: for how many seconds, and how long one try may meet silence; None: RETRY_SECONDS, and the client's
    """

    def __init__(self, patience: float | None) -> None:
        self._retrying = Retrying(
            retry=retry_if_exception_type(StateNotReachedError),
            stop=stop_after_delay(RETRY_SECONDS if patience is None else patience),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            reraise=True,
        )

    @abstractmethod
    def _explained(self, key: str) -> AbstractContextManager[None]:
        """Raise the client's errors as those of nightly.state.errors."""

    def _call(self, key: str, call: Callable[[], Result]) -> Result:
        def explained() -> Result:
            with self._explained(key):
                return call()

        return self._retrying.copy()(explained)  # threads share the store

    def _or_none(self, key: str, call: Callable[[], Result]) -> Result | None:
        try:
            return self._call(key, call)
        except MissingObjectError:
            return None


def open_objects(address: str, patience: float | None = None) -> Objects:
    """Return a client of the bucket at `address`. Sends no request. Raises StateAddressError and StateRefusedError.

    :param patience: for how many seconds it tries again while the store does not answer, which is also how long one
        request may meet silence; None: RETRY_SECONDS, and a minute of silence
    """
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme not in SCHEMES or not bucket:
        raise StateAddressError(
            f"NIGHTLY_STATE is {address!r}; use a folder, or a bucket as s3://bucket/prefix, gs://… or az://…"
        )
    if scheme == "gs":
        from nightly.state.google_objects import GoogleObjects

        return GoogleObjects(address, bucket, prefix.strip("/"), patience)
    from nightly.state.obstore_objects import ObstoreObjects

    return ObstoreObjects(address, scheme, bucket, prefix.strip("/"), patience)
