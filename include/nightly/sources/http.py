"""One file over HTTP: retried, resumed, verified, and under its final name only when it is whole.

urllib3's Retry ends where the body begins, so a connection that breaks in the middle of a long body needs a loop of
its own; that loop then serves the failures before the body as well.
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
LONGEST_WAIT_SECONDS = 300.0  # also of what a server asks for by Retry-After
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
    """Fetch `url` into `target`; nothing is ever seen under that name but the whole, verified body.

    `timeout` is the longest silence in seconds, not the longest download. `retries` counts failures in a row that
    brought nothing new: a body that grows by resuming goes on. A body whose end nothing marks (no length, no chunks, no
    gzip) looks whole where the connection broke, so it is fetched until it comes twice the same. Raises a SourceError
    of the kind of the last failure.
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
                transfer.discard()  # what is there would keep the disk full
                raise
            except SourceError as error:
                if not _may_pass(error, transient):
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


def _may_pass(error: SourceError, transient: Collection[int]) -> bool:
    if isinstance(error, HttpStatusError):
        return error.status in transient
    return isinstance(error, TRANSIENT_ERRORS)


def _wait(failures: int, error: SourceError) -> float:
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return min(asked, LONGEST_WAIT_SECONDS)
    return min(FIRST_WAIT_SECONDS * 2 ** max(failures - 1, 0), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1)


@dataclass
class _Transfer:
    """What has come of one body so far: the bytes as sent, compressed or not, and what is known of them."""

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
    unconfirmed: bytes = b""  # digest of the body as it came before, where nothing marks its end
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
        """Ask for what is missing and append it, or begin again where the server cannot continue."""
        # gzip only: its length and checksums are of the bytes as sent, which are kept until they are verified.
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
                    # What is there, not full chunks: bytes that came before a silence are kept.
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
        """Whether this is the whole body, as far as can be known. Raises IncompleteBodyError where it came otherwise
        the time before.
        """
        if self.end_marked:
            return True
        before, self.unconfirmed = self.unconfirmed, _digest(self.part, "sha256")
        if before == self.unconfirmed:
            return True
        size = self.size
        self.discard()
        if before:
            raise IncompleteBodyError(
                f"{self.origin}: the body came without a length and is not the same as before, after {size:,} bytes: "
                "the connection broke, or the source has changed."
            )
        log.info("%s: nothing marks the end of the body; it is fetched again, to compare", self.origin)
        return False

    def finish(self) -> DownloadedFile:
        """Verify the whole body, decompress it, and give it its name."""
        for algorithm, expected in self.checksums.items():
            found = _digest(self.part, algorithm)
            if found != expected:
                raise ChecksumError(
                    f"{self.origin}: the body's {algorithm} is {found.hex()}, and the server said {expected.hex()}."
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
                self.discard()  # the body is shorter now than what came before: begin again
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
        if response.status_code != 206:
            return False
        begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not self.size or not begins or int(begins[1]) != self.size or _encoding(response) != self.encoding:
            self.discard()
            raise IncompleteBodyError(f"{self.origin} sent another part of the body than was asked for.")
        log.info("%s: resumed at byte %s", self.origin, f"{self.size:,}")
        return True

    def _begin(self, response: requests.Response) -> None:
        self.discard()
        self.encoding = _encoding(response)
        if self.encoding not in ("", "gzip"):
            raise EncodingError(f"{self.origin} sent Content-Encoding {self.encoding!r}; only gzip was asked for.")
        headers = response.headers
        self.end_marked = "Content-Length" in headers or "Transfer-Encoding" in headers or self.encoding == "gzip"
        etag = response.headers.get("ETag", "")
        # If-Range wants a strong validator (RFC 9110, 13.1.5).
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
    """Every digest of the whole body that the server gives; an ETag is none, whatever it is made of."""
    given = [("md5", headers.get("Content-MD5", ""))]
    fields = ["Digest", "Repr-Digest", "Content-Digest"]  # RFC 3230, RFC 9530
    # Google's hash is of the object as stored, which may be compressed where the answer is not.
    if headers.get("x-goog-stored-content-encoding", "identity") == headers.get("Content-Encoding", "identity"):
        fields.append("x-goog-hash")
    for name in fields:
        given += [tuple(item.strip().split("=", 1)) for item in headers.get(name, "").split(",") if "=" in item]
    names = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
    found = {}
    for name, value in given:
        if value and name.lower() in names:
            try:
                found[names[name.lower()]] = base64.b64decode(value.strip(":"), validate=True)
            except binascii.Error:
                log.warning("the server's %s checksum %r is not base64, and not used", name, value)
    return found


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
    """The innermost reason in words: requests wraps urllib3, which wraps the socket's own error."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
