"""A body: one stream of rows, and what is known of it. And the marks of bytes in it that are not UTF-8."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nightly.snapshots.rejects import EXAMPLE_LENGTH

ROW = "__row"  # each batch's extra column: the record's number in its file, the header being 1
RowTest = Callable[[list[str]], bool]  # whether fields are a row

# A byte that is not UTF-8 becomes one of 128 private characters, so that the CSV parser goes on and the row is found.
_MARK = 0x10F700
MARKED = "[\U0010f780-\U0010f7ff]"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_MARK + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("nightly.mark", _mark)


def unmark(text: str) -> str:
    """The marked bytes as \\xNN, for people."""
    return re.sub(MARKED, lambda found: f"\\x{ord(found[0]) - _MARK:02x}", text)


@dataclass
class Body:
    """One CSV or TFRecord stream: a file, or a member of an archive. What follows `headers` is known as it is read."""

    name: str
    kind: str
    open: Callable[[], Any]  # a stream of bytes
    headers: list[str] = field(default_factory=list)  # as in the file, where they are not blank
    unnamed: dict[str, str] = field(default_factory=dict)  # each header that has got a name here -> as in the file
    marked: bool = False  # has a byte that is not UTF-8 been seen
    without_newline: bool = False  # does its last line end without one
    truncated: str = ""  # how it ends, where that is in the middle of a row
    cut_row: str = ""  # the beginning of that row

    def end(self, reason: str, row: str = "") -> None:
        """Note that the body is truncated; the first reason is the cause of the others."""
        self.truncated = self.truncated or reason
        self.cut_row = self.cut_row or unmark(row.split("\n")[0])[:EXAMPLE_LENGTH]
