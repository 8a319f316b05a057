"""One download over HTTP: the bytes so far, how they are verified, and how they are resumed."""

import gzip
import hashlib
import json
import logging
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import IncompleteRead
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from nightly.io.atomic import sync_file
from nightly.io.space import check_space, full_disk_explained
from nightly.sources.base import Fetched
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
from nightly.sources.http.headers import (
    TOTAL_HEADERS,
    checksums_of,
    condition_of,
    encoding_of,
    excerpt,
    fingerprint_of,
    is_html,
    looks_like_html,
    public,
    retry_after_of,
    strong_validator_of,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CHUNK = 1 << 20
KEPT_HEADERS = (
    *("Content-Type", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Date", "ETag", "Last-Modified"),
    *(
        "Content-MD5",
        "Digest",
        "Repr-Digest",
        "Content-Digest",
        "x-goog-hash",
        "x-goog-stored-content-encoding",
        "Link",
        *TOTAL_HEADERS,
    ),
)
REFUSED = {
    401: "The connection's login, password or token is wrong or has expired: renew it. A retry goes on from here.",
    403: "The connection's login or token may not read this: have it allowed.",
    404: "Correct the address, or the path of the connection.",
}


@dataclass(frozen=True)
class Answer(Fetched):
    """A body that was downloaded, or has not changed. Its fingerprint is the ETag or the Last-Modified date."""

    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Transfer:
    """The state of one download: the bytes received so far, as sent (perhaps compressed), and their headers."""

    session: requests.Session
    url: str
    target: Path
    params: Mapping[str, str]
    secret_params: Mapping[str, str]
    own_headers: Mapping[str, str]
    known: str
    timeout: float
    size: int = 0
    resumed: bool = False
    headers: CaseInsensitiveDict[str] = field(
        default_factory=CaseInsensitiveDict
    )  # of the response with the first byte
    unconfirmed: bytes = b""  # digest of the previous body, if its end is not marked

    def __post_init__(self) -> None:
        self.part = self.target.with_name(self.target.name + ".part")
        self.state = self.target.with_name(self.target.name + ".part.json")
        self.origin = public(self.url, self.params, self.secret_params)
        present = dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))
        secret = {name: value for name, value in self.secret_params.items() if name not in present}
        self.params = {**self.params, **secret}
        try:  # what an earlier process has received
            state = json.loads(self.state.read_text())
            if state["origin"] == self.origin:
                self.headers, self.size = CaseInsensitiveDict(state["headers"]), self.part.stat().st_size
        except (OSError, ValueError, KeyError):
            self.discard()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        self.size, self.headers = 0, CaseInsensitiveDict()

    def discard_unless_resumable(self) -> None:
        if not (self.size and strong_validator_of(self.headers)):
            self.discard()

    def receive(self) -> Answer | None:
        """Request the missing bytes and append them, or start again if the server cannot resume.

        Return an answer if the body has not changed, or the response has none (204).
        """
        # Only gzip: length and checksums apply to the bytes as sent, so they stay compressed until verified.
        headers = {"Accept-Encoding": "gzip", **self.own_headers}
        validator = strong_validator_of(self.headers) if self.size else ""
        headers |= {"Range": f"bytes={self.size}-", "If-Range": validator} if validator else condition_of(self.known)
        try:
            with self.session.get(
                self.url, params=self.params, headers=headers, stream=True, timeout=(CONNECT_SECONDS, self.timeout)
            ) as response:
                if response.status_code == 304 and self.known:
                    return Answer(self.known, unchanged=True, headers=response.headers)
                if response.status_code == 204:
                    self.target.touch()
                    return Answer(headers=response.headers)
                self._check(response)
                self.resumed = self._resumes(response)
                if not self.resumed:
                    self._begin(response)
                self._receive_body(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.filename:
                raise  # the disk, not the network
            # Without `from error`: a log of the cause would quote the address, with its secrets.
            if isinstance(error, ValueError | requests.TooManyRedirects):
                raise SourceError(f"{self.origin} cannot be requested ({type(error).__name__}): correct it.") from None
            if isinstance(error.__cause__, IncompleteRead) or isinstance(error.__context__, IncompleteRead):
                raise IncompleteBodyError(
                    f"{self.origin}: the body ended too early, after {self.size:,} bytes."
                ) from None
            raise ConnectionFailedError(f"{self.origin}: {_cause(error)}, after {self.size:,} bytes.") from None
        return None

    def is_confirmed(self) -> bool:
        """Return whether the body is known to be complete: its end is marked, or it equals the previous one.

        Raises IncompleteBodyError if it differs from the previous one.
        """
        if {"Content-Length", "Transfer-Encoding"} & {name.title() for name in self.headers}:
            return True
        if encoding_of(self.headers) == "gzip":
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

    def finish(self) -> Answer:
        """Verify the complete body, decompress it, and rename it to its target."""
        headers = self.headers
        for algorithm, expected in checksums_of(headers).items():
            actual = _digest(self.part, algorithm)
            if actual != expected:
                self.discard()
                raise ChecksumError(
                    f"{self.origin}: the body's {algorithm} is {actual.hex()}; the server's is {expected.hex()}."
                )
        if encoding_of(headers) == "gzip" and self.size:
            self._decompress()
        with self.part.open("rb") as file:
            start = file.read(512)
        if not start:
            self.discard()
            raise EmptyBodyError(
                f"{self.origin} answered 200 with an empty body. Ask for it later, or check the address."
            )
        if looks_like_html(start):
            self.discard()
            raise HtmlPageError(f"{self.origin} answered with an HTML page instead of data: {excerpt(start)}")
        self.part.replace(self.target)
        self.state.unlink(missing_ok=True)
        return Answer(fingerprint_of(headers), headers=headers)

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status not in (200, 206):
            if status == 416:
                self.discard()  # the body is now shorter than the part received: start again
                raise IncompleteBodyError(f"{self.origin} no longer has the rest of the body (416).")
            start = response.raw.read(512, decode_content=True) or b""
            answer = f"{self.origin} answered {status} {response.reason}: {excerpt(start)}."
            raise HttpStatusError(
                f"{answer} {REFUSED.get(status, '')}".strip(), status, retry_after_of(response.headers)
            )
        if is_html(response.headers):
            start = response.raw.read(512, decode_content=True) or b""
            raise HtmlPageError(f"{self.origin} answered with an HTML page instead of data: {excerpt(start)}")

    def _resumes(self, response: requests.Response) -> bool:
        """Return whether the response continues the body. Raises IncompleteBodyError if it is of another range."""
        if response.status_code != 206:
            return False
        match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        same_encoding = encoding_of(response.headers) == encoding_of(self.headers)
        if not self.size or not match or int(match[1]) != self.size or not same_encoding:
            self.discard()
            raise IncompleteBodyError(f"{self.origin} sent another part of the body than was requested.")
        log.info("%s: resumed at byte %s", self.origin, f"{self.size:,}")
        return True

    def _begin(self, response: requests.Response) -> None:
        self.discard()
        self.headers = CaseInsensitiveDict((k, response.headers[k]) for k in KEPT_HEADERS if k in response.headers)
        if (encoding := encoding_of(self.headers)) not in ("", "gzip"):
            raise EncodingError(f"{self.origin} sent Content-Encoding {encoding!r}; only gzip was requested.")
        length = self.headers.get("Content-Length", "")
        if length.isdecimal():
            check_space({self.part.parent: int(length)}, f"the download of {self.origin}")
        if strong_validator_of(self.headers):
            self.state.write_text(json.dumps({"origin": self.origin, "headers": dict(self.headers)}))

    def _receive_body(self, response: requests.Response) -> None:
        with (
            full_disk_explained(self.part.parent, f"the body of {self.origin}"),
            self.part.open("ab" if self.resumed else "wb") as file,
        ):
            # `read1` returns what is available, so bytes received before a silence are kept.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                file.write(chunk)
                file.flush()  # a kill loses no byte
                self.size += len(chunk)
            sync_file(file)

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
            self.state.unlink(missing_ok=True)  # what is in `part` from here on cannot be resumed
            plain.replace(self.part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.discard()
            raise IncompleteBodyError(f"{self.origin}: the compressed body is damaged: {error}") from error
        finally:
            plain.unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).digest()


def _cause(error: BaseException) -> str:
    """Return the innermost error as text: requests wraps urllib3, which wraps the socket's error."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
