"""Download a file over HTTP: with retries, resuming and verification, and renamed to its final name when complete.

urllib3's Retry covers failures before the body only. The loop here also covers a connection that breaks in the middle
of a long body.
"""

import base64
import binascii
import gzip
import hashlib
import logging
import random
import re
import shutil
import time
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.client import IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from urllib3.util.retry import Retry

from nightly.io.atomic import sync_file, sync_path
from nightly.io.space import SpaceError, check_space, full_disk_explained
from nightly.records.night import DownloadedFile
from nightly.sources.errors import (
    ChecksumError,
    ConnectionFailedError,
    EmptyBodyError,
    EncodingError,
    HtmlPageError,
    HttpStatusError,
    IncompleteBodyError,
    SourceError,
)

log = logging.getLogger(__name__)

TRANSIENT_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
TRANSIENT_ERRORS = (ConnectionFailedError, IncompleteBodyError, ChecksumError)
CONNECT_SECONDS = 10.0
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0  # also caps a server's Retry-After
CHUNK = 1 << 20


def download(
    url: str,
    target: Path,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60,
    retries: int = 5,
    transient: Collection[int] = TRANSIENT_STATUSES,
) -> DownloadedFile:
    """Fetch `url` into `target`, which appears only when the body is complete and verified.

    A body whose end is not marked (no length, no chunks, no gzip) looks complete after a broken connection. So it is
    fetched until two consecutive bodies are equal.

    :param timeout: the longest silence in seconds, not the longest download
    :param retries: failures in a row before giving up; a failure after a resumed body has grown restarts the count
    :param transient: the statuses to retry after
    :raises SourceError: of the kind of the last failure
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        transfer = _Transfer(session, url, target, params or {}, headers or {}, timeout)
        failures, furthest = 0, 0
        while True:
            try:
                transfer.receive()
                if transfer.is_confirmed():
                    return transfer.finish()
            except SpaceError:
                transfer.discard()  # a partial body would keep the disk full
                raise
            except SourceError as error:
                if not _is_transient(error, transient):
                    transfer.discard()
                    raise
                failures = 0 if transfer.resumed and transfer.size > furthest else failures + 1
                furthest = max(furthest, transfer.size)
                if failures > retries:
                    transfer.discard()
                    error.add_note(f"Given up after {failures} failures in a row.")
                    raise
                if isinstance(error, ChecksumError):
                    transfer.discard()
                wait = _wait(failures, error)
                log.warning("%s Trying again in %.1f s (failure %s of %s).", error, wait, failures, retries)
                time.sleep(wait)


def _is_transient(error: SourceError, transient: Collection[int]) -> bool:
    if isinstance(error, HttpStatusError):
        return error.status in transient
    return isinstance(error, TRANSIENT_ERRORS)


def _wait(failures: int, error: SourceError) -> float:
    """Return how long to wait before the next try, in seconds."""
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        return min(retry_after, LONGEST_WAIT_SECONDS)
    return min(FIRST_WAIT_SECONDS * 2 ** max(failures - 1, 0), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1)


@dataclass
class _Transfer:
    """The state of one download: the bytes received so far, as sent (perhaps compressed), and their headers."""

    session: requests.Session
    url: str
    target: Path
    params: Mapping[str, str]
    headers: Mapping[str, str]
    timeout: float
    size: int = 0
    resumed: bool = False
    validator: str = ""  # proves that a later Range is of the same body
    encoding: str = ""
    end_marked: bool = True  # by a length, by chunks, or by gzip
    unconfirmed: bytes = b""  # digest of the previous body, if its end is not marked
    checksums: dict[str, bytes] = field(default_factory=dict)  # hashlib's name -> digest of the bytes as sent
    origin: str = ""

    def __post_init__(self) -> None:
        self.part = self.target.with_name(self.target.name + ".part")
        self.origin = _without_secrets(requests.Request("GET", self.url, params=self.params).prepare().url or self.url)
        self.discard()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.size, self.validator, self.encoding, self.checksums = 0, "", "", {}

    def receive(self) -> None:
        """Request the missing bytes and append them, or start again if the server cannot resume."""
        # Only gzip: length and checksums apply to the bytes as sent, so they stay compressed until verified.
        headers = {"Accept-Encoding": "gzip", **self.headers}
        if self.size and self.validator:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self.validator}
        try:
            with self.session.get(
                self.url, params=self.params, headers=headers, stream=True, timeout=(CONNECT_SECONDS, self.timeout)
            ) as response:
                self._check(response)
                self.resumed = self._resumes(response)
                if not self.resumed:
                    self._begin(response)
                with (
                    full_disk_explained(self.part.parent, f"the body of {self.origin}"),
                    self.part.open("ab" if self.resumed else "wb") as file,
                ):
                    # `read1` returns what is available, so bytes received before a silence are kept.
                    while chunk := response.raw.read1(CHUNK, decode_content=False):
                        file.write(chunk)
                        self.size += len(chunk)
                    sync_file(file)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.filename:
                raise  # the disk, not the network
            if isinstance(error.__cause__, IncompleteRead):
                raise IncompleteBodyError(
                    f"{self.origin}: the body ended too early, after {self.size:,} bytes."
                ) from error
            raise ConnectionFailedError(f"{self.origin}: {_cause(error)}, after {self.size:,} bytes.") from error

    def is_confirmed(self) -> bool:
        """Return whether the body is known to be complete: its end is marked, or it equals the previous one.

        Raises IncompleteBodyError if it differs from the previous one.
        """
        if self.end_marked:
            return True
        previous, self.unconfirmed = self.unconfirmed, _digest(self.part, "sha256")
        if previous == self.unconfirmed:
            return True
        size = self.size
        self.discard()
        if previous:
            raise IncompleteBodyError(
                f"{self.origin}: the body came without a length and is not the same as before, after {size:,} bytes: "
                "the connection broke, or the source has changed."
            )
        log.info("%s: nothing marks the end of the body; fetching it again to compare", self.origin)
        return False

    def finish(self) -> DownloadedFile:
        """Verify the complete body, decompress it, and rename it to its target."""
        for algorithm, expected in self.checksums.items():
            actual = _digest(self.part, algorithm)
            if actual != expected:
                raise ChecksumError(
                    f"{self.origin}: the body's {algorithm} is {actual.hex()}; the server's is {expected.hex()}."
                )
        if self.encoding == "gzip" and self.size:
            self._decompress()
        with self.part.open("rb") as file:
            start = file.read(512)
        if not start:
            self.discard()
            raise EmptyBodyError(
                f"{self.origin} answered 200 with an empty body. Ask for it later, or check the address."
            )
        if _looks_like_html(start):
            self.discard()
            raise HtmlPageError(f"{self.origin} answered with an HTML page instead of data: {_excerpt(start)}")
        sha256, size = _digest(self.part, "sha256").hex(), self.part.stat().st_size
        self.part.replace(self.target)
        sync_path(self.target.parent)
        log.info("%s: %s bytes, sha256 %s", self.origin, f"{size:,}", sha256[:12])
        return DownloadedFile(path=str(self.target.absolute()), bytes=size, sha256=sha256, origin=self.origin)

    def _check(self, response: requests.Response) -> None:
        if response.status_code not in (200, 206):
            if response.status_code == 416:
                self.discard()  # the body is now shorter than the part received: start again
                raise IncompleteBodyError(f"{self.origin} no longer has the rest of the body (416).")
            start = response.raw.read(512, decode_content=True) or b""
            raise HttpStatusError(
                f"{self.origin} answered {response.status_code} {response.reason}: {_excerpt(start)}",
                response.status_code,
                _retry_after(response),
            )
        if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in (
            "text/html",
            "application/xhtml+xml",
        ):
            start = response.raw.read(512, decode_content=True) or b""
            raise HtmlPageError(f"{self.origin} answered with an HTML page instead of data: {_excerpt(start)}")

    def _resumes(self, response: requests.Response) -> bool:
        """Return whether the response continues the body. Raises IncompleteBodyError if it is of another range."""
        if response.status_code != 206:
            return False
        match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not self.size or not match or int(match[1]) != self.size or _encoding(response) != self.encoding:
            self.discard()
            raise IncompleteBodyError(f"{self.origin} sent another part of the body than was requested.")
        log.info("%s: resumed at byte %s", self.origin, f"{self.size:,}")
        return True

    def _begin(self, response: requests.Response) -> None:
        self.discard()
        self.encoding = _encoding(response)
        if self.encoding not in ("", "gzip"):
            raise EncodingError(f"{self.origin} sent Content-Encoding {self.encoding!r}; only gzip was requested.")
        headers = response.headers
        self.end_marked = "Content-Length" in headers or "Transfer-Encoding" in headers or self.encoding == "gzip"
        etag = response.headers.get("ETag", "")
        # If-Range requires a strong validator (RFC 9110, 13.1.5).
        self.validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        self.checksums = _checksums(response.headers)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            check_space({self.part.parent: int(length)}, f"the download of {self.origin}")

    def _decompress(self) -> None:
        plain = self.part.with_name(self.target.name + ".plain.part")
        try:
            with (
                full_disk_explained(plain.parent, f"the decompressed body of {self.origin}"),
                gzip.open(self.part) as source,
                plain.open("wb") as file,
            ):
                shutil.copyfileobj(source, file, CHUNK)
                sync_file(file)
            plain.replace(self.part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            plain.unlink(missing_ok=True)
            self.discard()
            raise IncompleteBodyError(f"{self.origin}: the compressed body is damaged: {error}") from error


def _checksums(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return hashlib's name -> digest of the complete body, from the headers. An ETag does not count as a digest."""
    digests = [("md5", headers.get("Content-MD5", ""))]
    fields = ["Digest", "Repr-Digest", "Content-Digest"]  # RFC 3230, RFC 9530
    # Google's hash is of the stored object, which may be compressed while the response is not.
    if headers.get("x-goog-stored-content-encoding", "identity") == headers.get("Content-Encoding", "identity"):
        fields.append("x-goog-hash")
    for name in fields:
        digests += [tuple(item.strip().split("=", 1)) for item in headers.get(name, "").split(",") if "=" in item]
    algorithms = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
    checksums = {}
    for name, value in digests:
        if value and name.lower() in algorithms:
            try:
                checksums[algorithms[name.lower()]] = base64.b64decode(value.strip(":"), validate=True)
            except binascii.Error:
                log.warning("ignored the server's %s checksum %r: it is not base64", name, value)
    return checksums


def _encoding(response: requests.Response) -> str:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    return {"identity": "", "x-gzip": "gzip"}.get(encoding, encoding)


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After")
    try:
        return Retry().parse_retry_after(value) if value else None
    except urllib3.exceptions.InvalidHeader:
        return None


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).digest()


def _looks_like_html(start: bytes) -> bool:
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|\?xml)", start, re.IGNORECASE))


def _excerpt(start: bytes) -> str:
    return repr(" ".join(start.decode(errors="replace").split())[:200])


def _cause(error: BaseException) -> str:
    """Return the innermost error as text: requests wraps urllib3, which wraps the socket's error."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
