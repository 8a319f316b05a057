"""HTTP APIs as a source: JSON or CSV, for a slice of days at a time, in one answer or in pages."""

import datetime as dt
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nightly.io.space import SpaceError, full_disk_explained
from nightly.records.http_config import fill_in, has_window
from nightly.records.source_config import HttpSource
from nightly.sources.base import Context, Fetched, Part, Window
from nightly.sources.errors import HttpStatusError, SourceError
from nightly.sources.http.connection import headers_of, params_of, url_of
from nightly.sources.http.download import TRANSIENT_STATUSES, Session, download
from nightly.sources.http.headers import next_link_of, public
from nightly.sources.http.pages import Paging, Request
from nightly.sources.http.rows import Body, CsvBody, JsonBody
from nightly.sources.http.transfer import Answer
from nightly.sources.slices import Slice, slices_of

log = logging.getLogger(__name__)

ACCEPT = {"json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"}
LIMIT = re.compile(r"([1-9]0|25)0*")  # rows that an API may answer at most: 10, 25, 500, 1000
SAME_ANSWERS = 3  # so many answers with as many rows are no chance
TOO_BIG = 413  # Content Too Large
EVERYTHING = Slice(dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))


def open_source(config: HttpSource, context: Context) -> "HttpApi":
    """Return the source of a [source] of kind http."""
    url = context.address or url_of(context.connection, config.url)
    headers = {"Accept": ACCEPT[config.format], **config.headers, **headers_of(context.connection)}
    return HttpApi(config, context.window, url, headers, params_of(context.connection))


@dataclass
class _Reading:
    """One reading of a slice.

    :ivar rows: a digest of each page's rows
    :ivar doubts: why the pages may not fit together
    """

    body: Body
    answers: list[Answer] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    incomplete: bool = False


@dataclass
class HttpApi:
    """An HTTP API.

    :ivar secret_params: parameters of the connection, which are in no part's name
    """

    config: HttpSource
    window: Window
    url: str
    headers: dict[str, str]
    secret_params: dict[str, str]

    def __post_init__(self) -> None:
        self.by_window = any(has_window(text) for text in (self.url, *self.config.params.values()))
        self._session = Session()
        self._answers: Counter[int] = Counter()  # rows -> how many slices came in one answer with so many
        self._slices: dict[str, Slice] = {}  # a part's name -> its days
        self._most = EVERYTHING.days  # days of a request: fewer, once the API has refused so many

    def parts(self) -> list[Part]:
        """Return a part for each slice of the window; a single one if the request does not depend on the window."""
        self._slices = {}
        for days in slices_of(self.window, self.config.slice_days) if self.by_window else [EVERYTHING]:
            request = self._request(days)
            name = public(
                request.url, request.params
            )  # a request for a whole month, say, is the same for several slices
            self._slices[name] = Slice(self._slices.get(name, days).start, days.end)
        suffix = ".csv" if self.config.format == "csv" else ".parquet"
        return [
            Part(name, suffix=suffix, end=days.end if self.by_window else None) for name, days in self._slices.items()
        ]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        """Read the slice; again, if its pages may have changed meanwhile, until it is the same twice. See base.py."""
        try:
            with full_disk_explained(target.parent, f"the body of {part.name}"):
                return self._fetch(part, target, known)
        except SpaceError:
            for path in target.parent.glob(f"{target.name}*"):  # a partial body would keep the disk full
                path.unlink()
            raise

    def _fetch(self, part: Part, target: Path, known: str) -> Fetched:
        previous: list[str] | None = None
        for _ in range(self.config.retries + 1):
            reading = self._read(part, target, known)
            if reading.answers and reading.answers[0].unchanged:
                return reading.answers[0]
            if not reading.doubts or (reading.rows == previous and not reading.incomplete):
                reading.body.finish()
                return Fetched(reading.answers[0].fingerprint if len(reading.answers) == 1 else "")
            log.warning("%s: %s; reading it again", part.name, "; ".join(reading.doubts))
            previous, known = reading.rows, ""
        target.unlink(missing_ok=True)
        raise SourceError(
            f"{part.name} changes while its pages are read: {'; '.join(reading.doubts)}. Have the API sort its rows by "
            "something that does not change, or ask for fewer days (slice_days)."
        )

    def _read(self, part: Part, target: Path, known: str) -> _Reading:
        reading = _Reading(self._body(target))
        whole = self._slices[part.name]
        pending = whole.pieces(self._most)
        while pending:
            days = pending.pop(0)
            # The fingerprint is of the whole slice. A piece of it may have it, too, if there were no other rows then.
            if not self._read_pages(days, reading, target, known if days == whole else ""):
                self._most = (days.days + 1) // 2
                pending = [piece for larger in (days, *pending) for piece in larger.pieces(self._most)]
            if reading.answers and reading.answers[0].unchanged:
                break
        return reading

    def _read_pages(self, days: Slice, reading: _Reading, target: Path, known: str) -> bool:
        """Add the pages of these days to `reading`. Return False if the API refuses so many days as too big."""
        config, paging = self.config, Paging(self.config.paging, self.config.max_pages)
        request: Request | None = paging.first(self._request(days))
        while request:
            origin = public(request.url, request.params, self.secret_params)
            file = target.with_name(target.name + ".page")
            file.unlink(missing_ok=True)
            try:
                answer = download(
                    request.url,
                    file,
                    params=request.params,
                    secret_params=self.secret_params,
                    headers=self.headers,
                    known="" if reading.answers else known,
                    timeout=config.timeout_seconds,
                    retries=config.retries,
                    transient=TRANSIENT_STATUSES.union(config.retry_statuses).difference(config.empty_statuses),
                    session=self._session,
                )
            except HttpStatusError as error:
                counted = config.paging and config.paging.kind in ("page", "offset")
                too_big = error.status in (TOO_BIG, *config.too_big_statuses)
                if too_big and self.by_window and days.days > 1 and not paging.pages:
                    log.warning("%s Asking for half of it.", error)
                    return False
                if error.status in config.empty_statuses or (error.status == 404 and counted and paging.pages):
                    reading.answers.append(Answer())
                    paging.end()  # some APIs have no page behind the last one
                    break
                raise
            if answer.unchanged and next_link_of(answer.headers):
                known = ""  # the first page is as it was, and others have come behind it
                continue
            reading.answers.append(answer)
            if answer.unchanged or not file.stat().st_size:  # 204
                paging.end()
                break
            page = reading.body.add(file, origin)
            reading.rows.append(page.digest)
            request = paging.following(request, page, answer.headers, origin)
        if config.paging is None and self.by_window and paging.pages == 1:
            self._warn_of_a_limit(paging.rows)
        reading.doubts += paging.doubts
        reading.incomplete |= paging.incomplete
        return True

    def _warn_of_a_limit(self, rows: int) -> None:
        """Warn if several answers have as many rows as an API's limit may be, and none has more.

        It is no error: a source may have the same 500 shops every day.
        """
        self._answers[rows] += 1
        if self._answers[rows] == SAME_ANSWERS and rows == max(self._answers) and LIMIT.fullmatch(str(rows)):
            log.warning(
                "%s answers have %s rows each, and none has more. If that is the API's limit, rows are missing: write "
                'paging in [source], or ask for more rows by a parameter. Otherwise write paging = { kind = "none" }.',
                SAME_ANSWERS,
                f"{rows:,}",
            )

    def _body(self, target: Path) -> Body:
        if self.config.format == "csv":
            return CsvBody(target, paged=self.config.paging is not None and self.config.paging.kind != "none")
        config = self.config
        lines = config.format == "jsonl"
        return JsonBody(target, lines=lines, place=config.rows, omits_empty=config.omits_empty_rows)

    def _request(self, days: Slice) -> Request:
        """Return the first request for these days, without what the connection adds."""
        params = {name: fill_in(text, *days) for name, text in self.config.params.items()}
        return Request(fill_in(self.url, *days), params)
