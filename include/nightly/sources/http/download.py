"""Download a file over HTTP: with retries, resuming and verification, and renamed to its final name when complete.

urllib3's Retry covers failures before the body only. The loop here also covers a connection that breaks in the middle
of a long body, and a process that is killed there: what has arrived stays in TARGET.part, and what proves that the rest
is of the same body in TARGET.part.json.
"""

import contextlib
import logging
import random
import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import requests
from requests.auth import HTTPBasicAuth

from nightly.io.space import SpaceError
from nightly.sources.errors import (
    ChecksumError,
    ConnectionFailedError,
    HttpStatusError,
    IncompleteBodyError,
    SourceError,
)
from nightly.sources.http.transfer import Answer, Transfer

log = logging.getLogger(__name__)

TRANSIENT_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
TRANSIENT_ERRORS = (ConnectionFailedError, IncompleteBodyError, ChecksumError)
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0  # also caps a server's Retry-After


class Session(requests.Session):
    """A session that sends a caller's headers to the host that they are for, and to no other.

    requests itself withholds only Authorization, and it would replace that by what ~/.netrc has.
    """

    FOR_ANY_HOST = re.compile(r"accept|user-agent|connection|cookie|proxy-|(if-)?range|if-(none-match|modified-since)")

    def __init__(self) -> None:
        super().__init__()
        self.auth = self._authorized

    @staticmethod
    def _authorized(request: requests.PreparedRequest) -> requests.PreparedRequest:
        user, password = requests.utils.get_auth_from_url(request.url)  # https://user:password@host
        return HTTPBasicAuth(user, password)(request) if user or password else request

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if self.should_strip_auth(response.request.url, prepared_request.url):
            for name in [name for name in prepared_request.headers if not self.FOR_ANY_HOST.match(name.lower())]:
                del prepared_request.headers[name]


def download(
    url: str,
    target: Path,
    *,
    params: Mapping[str, str] | None = None,
    secret_params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    known: str = "",
    timeout: float = 60,
    retries: int = 5,
    transient: Collection[int] = TRANSIENT_STATUSES,
    session: requests.Session | None = None,
) -> Answer:
    """Fetch `url` into `target`, which appears only when the body is complete and verified.

    A body whose end is not marked (no length, no chunks, no gzip) looks complete after a broken connection. So it is
    fetched until two consecutive bodies are equal. What a failure leaves of a body is resumed by the next call, also of
    another process, if a strong validator proves that it is the same body.

    :param secret_params: more parameters, which are in no log and no error
    :param known: a fingerprint: if the body still has it, the answer is `unchanged`, and there is no `target`
    :param timeout: the longest silence in seconds, not the longest download
    :param retries: failures in a row before giving up; a failure after a resumed body has grown restarts the count
    :param transient: the statuses to retry after
    :raises SourceError: of the kind of the last failure; it has no credentials
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(session) if session else Session() as session:
        transfer = Transfer(session, url, target, params or {}, secret_params or {}, headers or {}, known, timeout)
        failures, furthest = 0, 0
        while True:
            try:
                if answer := transfer.receive():
                    return answer
                if transfer.is_confirmed():
                    return transfer.finish()
            except SpaceError:
                transfer.discard()  # a partial body would keep the disk full
                raise
            except SourceError as error:
                if not _is_transient(error, transient):
                    transfer.discard_unless_resumable()
                    raise
                failures = 0 if transfer.resumed and transfer.size > furthest else failures + 1
                furthest = max(furthest, transfer.size)
                if failures > retries:
                    transfer.discard_unless_resumable()
                    error.add_note(f"Given up after {failures} failures in a row.")
                    raise
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
