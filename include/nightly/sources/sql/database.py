"""What every database is to a source: it describes a query's columns, and streams its rows in one consistent view."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

Kind = Literal["timestamp", "timestamptz", "date", "number", "text", "other"]
Bounds = Mapping[str, Any]  # window_start and window_end, as dt.datetime, dt.date, int or str

# SQL dialect -> a whole number of the values of {0}, whatever their order, which is another one for other values.
CHECKSUMS = {
    "postgresql": "SUM(HASHTEXT(CAST({0} AS TEXT)))",  # a quarter of the time of MD5
    # SQLite has no hash. Texts are times in milliseconds; the remainders keep the sum from an overflow.
    "sqlite": (
        "SUM(CASE typeof({0}) WHEN 'text' THEN CAST(ROUND((julianday({0}) - 2440587.5) * 86400000) AS INTEGER) "
        "WHEN 'real' THEN CAST({0} * 1000 AS INTEGER) ELSE {0} END % 1000000007)"
    ),
}
PLACEHOLDER = re.compile(r"(?<![:\w\\]):(window_start|window_end)\b")


@dataclass(frozen=True)
class Column:
    """A column of a table or a query.

    :ivar kind: how its values compare with a moment
    :ivar read: the SQL expression that reads it from `q`
    :ivar order: the SQL expression by which its rows can be sorted; "" if they cannot
    :ivar declared: the type's name, which a change of the column changes
    """

    name: str
    kind: Kind
    read: str
    order: str
    declared: str = ""


class Database(Protocol):
    """An open connection, whose reads all see the same rows.

    SQL is the database's own, with :window_start and :window_end for values that are bound.

    :ivar name: as a person knows it, without credentials
    :ivar substring: its function of (text, first position, length)
    :ivar sorts_bytes: whether text is sorted by its bytes, as Arrow sorts it
    :ivar checksum: one of CHECKSUMS, or "" if there is none for it
    """

    name: str
    substring: str
    sorts_bytes: bool
    checksum: str

    def quote(self, name: str) -> str:
        """Return an identifier in quotes."""
        ...

    def describe(self, query: str, guess: Bounds) -> list[Column]:
        """Return the columns of a query without reading its rows. Raises SourceError.

        :param guess: the window as numbers or datetimes, for a database that knows types only by values
        """
        ...

    def rows(self, query: str, bounds: Bounds, columns: list[Column]) -> Iterator[pa.RecordBatch]:
        """Yield the query's rows in batches of bounded bytes. Raises SourceError.

        :param columns: of the query, in its order; [] to have each column in the type that its values have
        """
        ...

    def close(self) -> None: ...


def bound_in_order(query: str, bounds: Bounds, mark: str = "?") -> tuple[str, list[Any]]:
    """Return the query with `mark` in place of each placeholder, and their values in the query's order."""
    values = [bounds[match[1]] for match in PLACEHOLDER.finditer(query)]
    return PLACEHOLDER.sub(mark, query), values
