"""A body (one stream of rows) with its state, and the marks for its bytes that are not UTF-8."""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightly.snapshots.errors import ColumnError
from nightly.snapshots.rejects import EXAMPLE_LENGTH

ROW = "__row"  # an extra column of each batch: the record's number in its file; a CSV header is number 1
RowTest = Callable[[list[str]], bool]  # tells whether fields form a row

# Each byte that is not UTF-8 becomes a private character: the CSV parser continues, and the row can be rejected later.
_MARK = 0x10F700
MARKED = "[\U0010f780-\U0010f7ff]"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_MARK + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("nightly.mark", _mark)


def unmark(text: str) -> str:
    """Return the text with its marked bytes as \\xNN."""
    return re.sub(MARKED, lambda match: f"\\x{ord(match[0]) - _MARK:02x}", text)


def decode(data: bytes, body: "Body") -> str:
    """Return UTF-8 as text. Bytes that are not UTF-8 are marked, and so is `body` then."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        body.marked = True
        return data.decode("utf-8", "nightly.mark")


@dataclass
class Body:
    """A stream of rows: a file, or a member of an archive. Reading it sets the fields from `marked` on."""

    name: str
    kind: str
    open: Callable[[], Any]  # a stream of bytes
    headers: list[str] = field(default_factory=list)  # as in the file; a blank header has a generated name
    unnamed: dict[str, str] = field(default_factory=dict)  # generated name -> the blank header in the file
    kinds: dict[str, str] = field(default_factory=dict)  # header -> list or bytes, as the file itself declares it
    partition: dict[str, str | None] = field(default_factory=dict)  # columns that are the same for all rows
    marked: bool = False  # whether a byte was not UTF-8
    without_newline: bool = False  # whether the last line lacks its newline
    truncated: str = ""  # how the body ends, if it ends in the middle of a row
    cut_row: str = ""  # the beginning of that row

    def end(self, reason: str, row: str = "") -> None:
        """Record that the body is truncated. The first reason stays, as it causes the later ones."""
        self.truncated = self.truncated or reason
        self.cut_row = self.cut_row or unmark(row.split("\n")[0])[:EXAMPLE_LENGTH]


def refuse_duplicates(name: str, headers: Sequence[str]) -> None:
    """Raise ColumnError if two columns of the file `name` have the same header."""
    duplicates = sorted(header for header, times in Counter(headers).items() if times > 1)
    if duplicates:
        raise ColumnError(f"{name}: the header {duplicates[0]!r} is there twice; rename one, or leave it out.")


def as_text(values: pa.Array, body: Body) -> pa.StringArray:
    """Return the values as text, null for a blank. Bytes that are not UTF-8 are marked, and so is `body` then."""
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        try:
            values = values.cast(pa.string())
        except pa.ArrowInvalid:
            body.marked = True
            texts = [None if value is None else value.decode("utf-8", "nightly.mark") for value in values.to_pylist()]
            values = pa.array(texts, pa.string())
    values = values.cast(pa.string())
    return pc.if_else(pc.equal(values, ""), None, values)
