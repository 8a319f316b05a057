"""Follow the pages of an HTTP API, and notice pages that have changed meanwhile."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from nightly.records.http_config import CursorPaging, NoPaging, OffsetPaging, PagePaging
from nightly.sources.errors import RefusedError
from nightly.sources.http.headers import next_link_of, total_of
from nightly.sources.http.json_document import dig
from nightly.sources.http.rows import Page

MORE_PAGES = re.compile(r"@?(odata\.)?next([._-]?(page|link|url|uri|href|token|cursor|page[_-]?token))?", re.IGNORECASE)
HAS_MORE = re.compile(r"(has|is)[_-]?(more|next)([_-]?page)?", re.IGNORECASE)
PAGE_COUNT = re.compile(r"(total|num)[_-]?pages|page[_-]?count", re.IGNORECASE)

MOST_EMPTY = 1_000  # pages without rows in a row: an API that filters behind its cursor has some


@dataclass(frozen=True)
class Request:
    url: str
    params: Mapping[str, str]


@dataclass
class Paging:
    """The pages of one request, from the first.

    :ivar most: pages; more are an error
    :ivar rows: how many have arrived
    :ivar doubts: why the pages may not fit together
    """

    config: PagePaging | OffsetPaging | CursorPaging | NoPaging | None
    most: int
    pages: int = 0
    rows: int = 0
    empty: int = 0  # pages in a row up to the last
    doubts: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # digest of a page's rows, or of a request -> the page's number
    last: Page = field(default_factory=Page)
    largest: int = 0  # rows of a page
    total: int | None = None
    incomplete: bool = False  # fewer or more rows have arrived than `total`

    def first(self, request: Request) -> Request:
        """Return the request of the first page."""
        match self.config:
            case PagePaging(param=param, first=number):
                return Request(request.url, {**request.params, param: str(number)})
            case OffsetPaging(param=param):
                return Request(request.url, {**request.params, param: "0"})
        return request

    def following(self, request: Request, page: Page, headers: Mapping[str, str], origin: str) -> Request | None:
        """Return the request of the page behind `page`, or None for the last. Raises RefusedError."""
        self._count(page, origin)
        match self.config:
            case None:
                address = next_link_of(headers)
                if not address and (unread := _sign_of_more(page.rest) or self._rows_missing(headers)):
                    raise RefusedError(
                        f"{origin} has more pages than this one: {unread} If these are all rows, write "
                        'paging = { kind = "none" }.'
                    )
                following = self._at(request, address) if address else None
            case NoPaging():
                following = None
            case CursorPaging(next=place, param=param):
                token = dig(page.rest, place)
                if token is None or token is False or token == "":
                    following = None
                elif param:
                    following = Request(request.url, {**request.params, param: str(token)})
                else:
                    following = self._at(request, str(token))
            case config:
                done = self.total is not None and self.rows >= self.total
                position = self.rows if isinstance(config, OffsetPaging) else config.first + self.pages
                following = Request(request.url, {**request.params, config.param: str(position)})
                following = None if not page.rows or done else following
        if following and not isinstance(self.config, PagePaging | OffsetPaging):
            self._check_new(f"{following.url} {following.params}", "asks for the next page as", origin)
        if following:
            self._check_bounds(origin)
        else:
            self.end()
        return following

    def end(self) -> None:
        """Compare the rows that have arrived with the API's own count of them."""
        if self.config and self.total is not None and self.total != self.rows:
            self.incomplete = True
            self.doubts.append(f"{self.rows:,} rows arrived, and {self.config.total} is {self.total:,}")

    def _rows_missing(self, headers: Mapping[str, str]) -> str:
        """Return which header tells of more rows than a single page has, and what to write; "" if none does."""
        total = total_of(headers)
        if self.pages > 1 or total is None or self.rows >= total[1]:
            return ""
        return (
            f"{total[0]} is {total[1]:,}, and {self.rows:,} rows arrived. "
            'Write paging = { kind = "page" } in [source], or another kind.'
        )

    def _count(self, page: Page, origin: str) -> None:
        if page.rows and isinstance(self.config, PagePaging | OffsetPaging):
            self._check_new(page.digest, "has the rows of", origin)
            if self.last.rows and self.last.rows < self.largest:
                self.doubts.append(f"page {self.pages} has fewer rows than those before, and is not the last")
            if page.first == self.last.last:
                self.doubts.append(f"page {self.pages + 1} begins with the last row of the page before")
            self.largest = max(self.largest, page.rows)
        self.empty = 0 if page.rows else self.empty + 1
        self.pages, self.rows, self.last = self.pages + 1, self.rows + page.rows, page
        if self.config and self.config.total:
            total = dig(page.rest, self.config.total)
            if not str(total).isdecimal():
                raise RefusedError(f"{origin} has no number of rows at {self.config.total}: correct paging.total.")
            if self.total not in (None, int(total)):
                self.doubts.append(f"{self.config.total} was {self.total:,} and is {int(total):,}")
            self.total = int(total)

    def _check_new(self, what: str, relation: str, origin: str) -> None:
        """Raise RefusedError for a page that has come before: reading would never end."""
        if what in self.seen:
            param = getattr(self.config, "param", "")
            remedy = f"the API does not heed the parameter {param}: correct paging" if param else "correct paging"
            raise RefusedError(f"{origin} {relation} page {self.seen[what]}; {remedy}.")
        self.seen[what] = self.pages + 1

    def _check_bounds(self, origin: str) -> None:
        """Raise RefusedError if there are too many pages: each may differ, and no end may come."""
        if self.empty >= MOST_EMPTY:
            raise RefusedError(
                f"{origin}: {self.empty:,} pages in a row have no rows, and name a next one; correct paging."
            )
        if self.pages >= self.most:
            raise RefusedError(
                f"{origin}: there are more than {self.most:,} pages, with {self.rows:,} rows so far. If the API does "
                "not page for ever, ask for larger pages or fewer days (slice_days), or raise source.max_pages."
            )

    def _at(self, request: Request, address: str) -> Request:
        """Return the request for an address in an answer. It keeps the configured host."""
        own, other = urlsplit(request.url), urlsplit(urljoin(request.url, address))
        return Request(urlunsplit(other._replace(scheme=own.scheme, netloc=own.netloc)), {})


def _sign_of_more(rest: Any, path: str = "") -> str:
    """Return the sign of further pages and the config that follows them; "" if there is none."""
    if not isinstance(rest, dict):
        return ""
    for key, value in rest.items():
        place = f"{path}.{key}" if path else key
        named = MORE_PAGES.fullmatch(key) or MORE_PAGES.fullmatch(".".join(place.split(".")[-2:]))
        if named and value and isinstance(value, str | int):
            address = isinstance(value, str) and ("/" in value or "?" in value)
            param = "" if address else ', param = "…"'
            paging = f'{{ kind = "cursor", next = "{place}"{param} }}'
            return f"{place} is {str(value)[:60]!r}. Write paging = {paging} in [source]."
        if (HAS_MORE.fullmatch(key) and value is True) or (
            PAGE_COUNT.fullmatch(key) and isinstance(value, int) and value > 1
        ):
            return f'{place} is {str(value).lower()}. Write paging = {{ kind = "page" }} in [source], or another kind.'
        if sign := _sign_of_more(value, place):
            return sign
    return ""
