"""The columns' names: the first lines of files, and what is wrong with them."""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from anyascii import anyascii

from nightly.new_model.errors import NewModelError
from nightly.records.columns import NO_FEATURES
from nightly.records.data_config import column_name
from nightly.snapshots.body import MARKED, ROW, Body, unmark

DATE = r"\d{4}[-/.]\d\d?[-/.]\d|\d\d?[-/.]\d\d?[-/.]\d"
VALUE = re.compile(rf"\s*([+-]?\d+(\.\d+)?([eE][+-]?\d+)?\s*$|{DATE})")  # a number, or the beginning of a date
SHOWN = 4


def renamed(headers: Iterable[str], keep: Collection[str] = ()) -> dict[str, str]:
    """Return header -> column name for the headers whose snake_case name is taken, or cannot be a feature's.

    Letters outside ASCII are transliterated: Größe becomes grosse.

    :param keep: names or headers that may be the label's, which may have any name
    """
    keep = {*keep, *map(_ascii_name, keep)}
    taken: dict[str, str] = {}
    rename = {}
    for header in dict.fromkeys(headers):
        own = _ascii_name(header)
        # A signature of TensorFlow would rename the input `1st` to `arg_1st`.
        name = base = own if own and (not own[0].isdigit() or own in keep) else f"column_{own}".strip("_")
        for number in itertools.count(2):
            if name not in taken and name != ROW and (name not in NO_FEATURES or name in keep):
                break
            name = f"{base}_{number}"
        taken[name] = header
        if name != column_name(header):
            rename[header] = name
    return rename


def _ascii_name(header: str) -> str:
    """Return the header in snake_case, with letters outside ASCII transliterated."""
    return column_name(anyascii(header))


def refuse_headers(body: Body) -> None:
    """Raise NewModelError if the first line is not UTF-8, or has values where names should be."""
    named = [header for header in body.headers if header not in body.unnamed]
    wrong = next((header for header in named if re.search(f"{MARKED}|\0", header)), None)
    if wrong is not None:
        raise NewModelError(f"{body.name}: the header {unmark(wrong)!r} is not UTF-8: save the file as UTF-8")
    if body.kind == "csv" and 2 * sum(bool(VALUE.match(header)) for header in named) > len(named) > 0:
        raise _no_header(body.name, named)


def refuse_rows_as_headers(bodies: list[Body], rename: Mapping[str, str], sample: pa.Table) -> None:
    """Raise NewModelError if half of the names in a first line are values of their own columns."""
    for body in bodies:
        named = [header for header in body.headers if header not in body.unnamed]
        columns = {header: rename.get(header) or column_name(header) for header in named}
        values = [header for header, column in columns.items() if _has(sample, column, header)]
        if body.kind == "csv" and values and 2 * len(values) >= len(named):
            raise _no_header(body.name, named)


def uneven(bodies: list[Body]) -> str:
    """Return a sentence on files that lack columns of others; "" if there are none."""
    every = dict.fromkeys(header for body in bodies for header in body.headers)
    for body in bodies:
        if lacking := [header for header in every if header not in body.headers]:
            shown = ", ".join(lacking[:SHOWN]) + (f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else "")
            return f"{body.name} lacks columns that other files have: {shown}. Are all files of one table?"
    return ""


def _has(sample: pa.Table, name: str, value: str) -> bool:
    if name not in sample.schema.names or not pa.types.is_string(sample.schema.field(name).type):
        return False
    return bool(pc.any(pc.equal(sample.column(name), value), min_count=0).as_py())


def _no_header(name: str, headers: list[str]) -> NewModelError:
    shown = ", ".join(headers[:SHOWN]) + (", …" if len(headers) > SHOWN else "")
    return NewModelError(
        f"{name}: the first line is {shown}, which looks like a row: write the columns' names above it"
    )
