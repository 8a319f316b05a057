"""One sentence for what the libraries of tables raise. Their own texts are long, and may quote a signed address."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError, UnreadableFileError

EXPIRED = re.compile(
    r"ExpiredToken|token\S* (has |is )?expired|expired.{0,20}token|AuthenticationFailed.*expired", re.I
)
REFUSED = re.compile(
    r"\b40[13]\b|AccessDenied|ACCESS.DENIED|Forbidden|Unauthorized|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|InvalidAccessKeyId|"
    r"INVALID_ACCESS_KEY_ID|AuthenticationFailed|invalid_client|permission denied",
    re.I,
)
# The answer to a HEAD has no body, so it does not tell that a token has expired.
BAD_REQUEST = re.compile(r"HTTP status 400|400 Bad Request|status: 400|\b400\b.*No response body", re.I)
NO_BUCKET = re.compile(r"NoSuchBucket|NO_SUCH_BUCKET|bucket.{0,40}(not exist|not found)", re.I)
MISSING = re.compile(r"No such file|not found|NO_SUCH_KEY|NoSuchKey|does not exist|\b404\b", re.I)
DAMAGED = re.compile(
    r"parquet magic|corrupt|not a parquet|deserialize thrift|decompress|Unexpected end of stream", re.I
)


class MissingFileError(SourceError):
    """A file that the table's log or metadata names is not there."""


@contextmanager
def explained(place: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of Arrow, of the disk or the network, and of `kinds` into a SourceError about `place`."""
    try:
        yield
    except (OSError, pa.ArrowException, *kinds) as error:
        raise failure(place, error) from None


def failure(place: str, error: Exception) -> SourceError:
    """Return what a library's error means for a person."""
    text = str(error)
    if EXPIRED.search(text):
        return SourceError(
            f"{place}: the credentials have expired: renew those of source.connection. "
            "The files fetched so far are kept, and the next try goes on."
        )
    if BAD_REQUEST.search(text):
        return SourceError(
            f"{place}: the store refuses the request (400), as it does when a token has expired: renew the credentials "
            "of source.connection. The files fetched so far are kept, and the next try goes on."
        )
    if NO_BUCKET.search(text):
        return RefusedError(f"{place}: there is no such bucket: check source.path.")
    if REFUSED.search(text):
        return RefusedError(f"{place}: access is refused: check the credentials and rights of source.connection.")
    if DAMAGED.search(text):
        return UnreadableFileError(f"{place} is damaged: {plain(error)}. Restore it, or take it out of the table.")
    if isinstance(error, FileNotFoundError) or MISSING.search(text):
        return MissingFileError(f"{place} is gone: {plain(error)}.")
    if isinstance(error, (ValueError, KeyError, NotImplementedError)):  # Arrow's and pyiceberg's, of values and types
        return UnreadableFileError(f"{place} does not fit the table's columns: {plain(error)}.")
    return ConnectionFailedError(f"{place} cannot be read: {plain(error)}.")


def plain(error: Exception) -> str:
    """Return what an error's text says in one line: of a chain of causes the first and the last.

    The queries of addresses are left out, since they may have signatures, and so are users and passwords in them.
    """
    text = re.sub(r"\x1b\[\d+m|↳", "", str(error))
    text = re.sub(r"(https?://)[^/\s@]+@", r"\1", re.sub(r"\?[^\s)'\"]*", "", text))
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.match(r"\d+: |at ", line)] or [type(error).__name__]  # no frames
    line = lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"
    return line.rstrip(".") if len(line) <= 300 else f"{line[:300]}…"
