"""Files on a web server: one URL, or one for each date of the window."""

import base64
from pathlib import Path

from nightly.records.connection import Connection
from nightly.sources.base import Fetched, Part
from nightly.sources.errors import HttpStatusError, NothingFoundError
from nightly.sources.files.formats import READABLE, kind_of, suffix_of
from nightly.sources.files.listing import Listing
from nightly.sources.http import download


class WebFiles:
    """The files of a URL with dates; globs are part of the URL."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.headers = authorization(listing.context.connection)

    def parts(self) -> list[Part]:
        parts = []
        for url, end in self.listing.paths().items():
            name = url.partition("?")[0].partition("#")[0]
            if not (self.listing.format or kind_of(name)):
                raise NothingFoundError(
                    f"{name} is not of a kind that can be read by its name: {READABLE}. `source.format` names its kind."
                )
            parts.append(Part(url, suffix_of(name, self.listing.format), end=end))
        return parts

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        try:
            return download(part.name, target, headers=self.headers, known=known)
        except HttpStatusError as error:
            if error.status == 404 and self.listing.pattern.step:
                self.listing.tell_missing([part.name])
                return Fetched()
            raise


def authorization(connection: Connection | None) -> dict[str, str]:
    """Return the header for a login and password (Basic) or a password alone (a bearer token)."""
    password = connection.password.get_secret_value() if connection else ""
    if not connection or not password:
        return {}
    if connection.login:
        pair = base64.b64encode(f"{connection.login}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {password}"}
