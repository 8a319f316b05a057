"""Files on a web server: one URL, or one for each date of the window."""

import threading
from pathlib import Path

from nightly.sources.base import Fetched, Part
from nightly.sources.errors import HttpStatusError, NothingFoundError
from nightly.sources.files.formats import READABLE, kind_of, suffix_of
from nightly.sources.files.listing import Listing
from nightly.sources.http.connection import headers_of
from nightly.sources.http.download import Session, download
from nightly.sources.http.headers import public

CONNECTIONS = 8  # a year of hours is 8,760 requests, each of which mostly waits


class WebFiles:
    """The files of a URL with dates; globs are part of the URL."""

    connections = CONNECTIONS

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.headers = headers_of(listing.context.connection)
        self._of_thread = threading.local()
        self._urls: dict[str, str] = {}  # a part's name -> its URL, with the secret parameters that the name lacks

    def parts(self) -> list[Part]:
        parts = []
        for url, end in self.listing.paths().items():
            path = url.partition("?")[0].partition("#")[0]
            if not (self.listing.format or kind_of(path)):
                raise NothingFoundError(
                    f"{path} is not of a kind that can be read by its name: {READABLE}. Name its kind: "
                    "`source.format` in config.toml, --format of bin/new."
                )
            name = public(url)
            if end and "***" in name:
                name += f"#{end:%Y-%m-%dT%H}"  # a date may be among what *** hides, as in ?key=2016-03-01.csv
            self._urls[name] = url
            parts.append(Part(name, suffix_of(path, self.listing.format), end=end))
        return parts

    @property
    def _session(self) -> Session:
        """The session of this thread, which keeps its connection."""
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = Session()
        return self._of_thread.session

    def lost(self, name: str) -> Part | None:
        return None  # each date is a part: the server answers that a file is not there

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        try:
            return download(self._urls[part.name], target, headers=self.headers, known=known, session=self._session)
        except HttpStatusError as error:
            if error.status == 404 and self.listing.pattern.step:
                return Fetched()
            raise
