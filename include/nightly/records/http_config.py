"""Parts of [source] with kind = "http": how its address is written for a slice of days, and how it pages."""

import datetime as dt
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nightly.io.hints import did_you_mean
from nightly.records.section import Section

PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
MOMENTS = ("start", "end", "last")
EPOCHS = {"epoch_s": dt.timedelta(seconds=1), "epoch_ms": dt.timedelta(milliseconds=1)}  # format -> its unit
SECRET = re.compile(
    r"passw|passphrase|secret|credential|authorization|signature|cookie|\bsig$|\bsas\b"
    r"|(^|[_-])(access|api|auth|bearer|id|refresh|security|session)?[_-]?token$"
    r"|(^|[_-])(api|access|account|shared|service|subscription)[_-]?key\b|^(app)?_?key$",
    re.IGNORECASE,
)


class PagePaging(Section):
    """Pages by their number, up to the first without rows."""

    kind: Literal["page"] = "page"
    """Counts pages."""
    param: Annotated[str, Field(min_length=1)] = "page"
    """The parameter with the page's number."""
    first: int = 1
    """The number of the first page."""
    total: str = ""
    """The path of the number of all rows in a JSON answer, e.g. `meta.total`. As many must arrive."""


class OffsetPaging(Section):
    """Pages by the number of rows before them, up to the first without rows."""

    kind: Literal["offset"] = "offset"
    """Counts rows."""
    param: Annotated[str, Field(min_length=1)] = "offset"
    """The parameter with the number of rows before the page."""
    total: str = ""
    """The path of the number of all rows in a JSON answer, e.g. `meta.total`. As many must arrive."""


class CursorPaging(Section):
    """Each page of JSON says how to ask for the next one."""

    kind: Literal["cursor"] = "cursor"
    """Follows what each page says."""
    next: Annotated[str, Field(min_length=1)]
    """The path of the next page's address or token in a JSON answer, e.g. `meta.next`. The last page has none."""
    param: str = ""
    """The parameter that takes the token. Without it, `next` has addresses."""
    total: str = ""
    """The path of the number of all rows in a JSON answer, e.g. `meta.total`. As many must arrive."""


class NoPaging(Section):
    """The first page has all rows."""

    kind: Literal["none"] = "none"
    """Takes one answer for all rows, whatever signs of more pages it has."""
    total: ClassVar[str] = ""


Paging = Annotated[PagePaging | OffsetPaging | CursorPaging | NoPaging, Field(discriminator="kind")]


def has_window(text: str) -> bool:
    """Return whether the text has a placeholder for a bound of a slice."""
    return PLACEHOLDER.search(text) is not None


def check_placeholders(text: str) -> None:
    """Raise ValueError if a placeholder has an unknown name or format."""
    for name, form in PLACEHOLDER.findall(text):
        if name not in MOMENTS:
            raise ValueError(
                f"{text!r} has {{{name}}}: a slice of days has {{start}}, {{end}} (the first moment after it) and "
                f"{{last}} (its last moment)" + did_you_mean(name, list(MOMENTS))
            )
        if form and form not in EPOCHS and "%" not in form:
            raise ValueError(
                f"{text!r}: {form!r} is no format of a time{did_you_mean(form, list(EPOCHS))}; e.g. "
                f"{{{name}:%Y-%m-%dT%H:%M:%SZ}} or {{{name}:epoch_s}}"
            )


def fill_in(text: str, start: dt.datetime, end: dt.datetime) -> str:
    """Return the text for the slice [start, end), with a date such as 2016-01-31 by default."""
    moments = {"start": start, "end": end, "last": end - dt.timedelta(microseconds=1)}

    def written(match: re.Match[str]) -> str:
        moment, form = moments[match[1]], match[2] or "%Y-%m-%d"
        if form in EPOCHS:
            return str((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // EPOCHS[form])
        return moment.strftime(form)

    return PLACEHOLDER.sub(written, text)
