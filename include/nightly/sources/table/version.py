"""What Delta and Iceberg have in common: a table has versions, and a version has immutable data files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class DataFile:
    """A data file of a version.

    :ivar name: its address, without credentials
    :ivar fingerprint: other text when its rows are others: rows of it were deleted, or the table's columns changed
    :ivar bytes: its size in the table
    :ivar handle: what the format reads it by
    """

    name: str
    fingerprint: str
    bytes: int
    handle: Any


@dataclass(frozen=True)
class Change:
    """What an operation did to data files that a window needed.

    :ivar operation: as the table's history names it, e.g. MERGE
    :ivar files: how many of them it replaced
    :ivar same_rows: it only rewrote them, as a compaction does
    """

    operation: str
    files: int
    same_rows: bool


class TableVersion(Protocol):
    """A version of a table. `str` gives the version and its time, for the log.

    :ivar place: the table's address, without credentials
    :ivar id: tells the version to `changes_since`
    """

    place: str
    id: str

    def files(self) -> tuple[list[DataFile], int]:
        """Return the data files that may have rows of the window, oldest first, and how many there are in all.

        Raises SourceError.
        """
        ...

    def read(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a data file that are not deleted, with the table's columns. Raises SourceError."""
        ...

    def changes_since(self, known: str) -> list[Change]:
        """Return what happened to the window's files after the version `known`; nothing if that cannot be told."""
        ...
