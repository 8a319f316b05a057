"""Type the rows that a night may see, batch by batch, and reject those that cannot be read."""

import datetime as dt
import functools
import itertools
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightly.io.tables import shown
from nightly.snapshots.body import MARKED, ROW, Body, unmark
from nightly.snapshots.conversion import Conversion
from nightly.snapshots.csv_rows import as_csv
from nightly.snapshots.labels import is_number
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.times import Times
from nightly.snapshots.types import TYPES


@dataclass
class Seen:
    """Counts and extent of the rows with a readable time, or of all rows without a time column."""

    rows: int = 0
    outside: int = 0  # outside the window
    not_known_yet: int = 0  # in the window, and known only after the as-of time
    oldest: dt.datetime | None = None
    newest: dt.datetime | None = None

    def add_times(self, times: pa.TimestampArray) -> None:
        extent = pc.min_max(times).as_py()
        self.oldest = min(filter(None, (self.oldest, extent["min"])), default=None)
        self.newest = max(filter(None, (self.newest, extent["max"])), default=None)


@dataclass
class Cleaner:
    """Cleans the batches of a snapshot; `seen` has the counts so far."""

    conversion: Conversion
    times: Times
    rejects: Rejects
    seen: Seen = field(default_factory=Seen)

    def clean(self, batch: pa.RecordBatch, body: Body) -> pa.RecordBatch:
        """Return the batch's valid rows of the window, typed and with all columns of the snapshot."""
        rows = _Rows(batch, body, self.rejects)
        if body.marked:
            rows.keep_utf8()
        self._select(rows)
        if self.times.data.id_columns:
            rows.keep_identified(self.times.data.id_columns)
        self._convert(rows)
        columns = self.conversion.columns
        arrays = [rows.typed.get(name, pa.nulls(len(rows), TYPES[kind])) for name, kind in columns.items()]
        return pa.RecordBatch.from_arrays(arrays, list(columns))

    def _select(self, rows: "_Rows") -> None:
        """Keep the rows that are in the window and were known at the as-of time, and count the others."""
        data = self.times.data
        for name in filter(None, (data.time_column, data.known_at)):
            rows.add_missing(name)
        if name := data.time_column:
            self._parse_time(rows, name)
        self.seen.rows += len(rows)
        if name:
            self.seen.add_times(rows.typed[name])
            inside = self.times.in_window(rows.typed[name])
            self.seen.outside += _false(inside)
            rows.keep(inside)
        if name := data.known_at:
            self._parse_time(rows, name)
            known = self.times.known(rows.typed[name], rows.batch.column(name).type)
            self.seen.not_known_yet += _false(known)
            rows.keep(known)

    def _parse_time(self, rows: "_Rows", name: str) -> None:
        rows.typed[name] = self.times.parse(name, rows.batch.column(name))
        rows.keep(rows.reject(rows.typed[name].is_null(), "time", name))

    def _convert(self, rows: "_Rows") -> None:
        """Type the columns that are not typed yet."""
        for name in self.conversion.columns:
            if name in rows.present and name not in rows.typed:
                rows.typed[name], faults = self.conversion.convert(name, rows.batch.column(name))
                if present_faults := [fault for fault in faults if pc.any(fault.rows).as_py()]:
                    good = [rows.reject(fault.rows, fault.reason, name, fault.sentences) for fault in present_faults]
                    rows.keep(functools.reduce(pc.and_, good))


class _Rows:
    """The rows of a batch that are valid so far.

    :ivar batch: the rows as they were read
    :ivar present: the columns that the body has
    :ivar typed: the columns that are typed already
    """

    def __init__(self, batch: pa.RecordBatch, body: Body, rejects: Rejects) -> None:
        self.batch = batch
        self.present = [name for name in batch.schema.names if name != ROW]
        self.typed: dict[str, pa.Array] = {}
        self._body, self._rejects = body, rejects

    def __len__(self) -> int:
        return self.batch.num_rows

    def keep(self, good: pa.Array) -> None:
        """Keep the rows where `good` is true."""
        if pc.all(good).as_py():
            return  # a filter would copy the rows
        self.batch = self.batch.filter(good)
        self.typed = {name: values.filter(good) for name, values in self.typed.items()}

    def reject(self, bad: pa.Array, reason: str, column: str, sentences: pa.Array | None = None) -> pa.Array:
        """Record the rows where `bad` is true as rejected; return the mask of the others.

        :param sentences: what is wrong with each such row, in place of its value
        """
        if not pc.any(bad).as_py():
            return pc.invert(bad)
        wrong = sentences.filter(bad).to_pylist() if sentences is not None else itertools.repeat(None)
        for row, sentence in zip(_row_texts(self.batch.filter(bad)), wrong, strict=False):
            number = row.pop(ROW)
            value = sentence or unmark(_plain(row[column]) or "")
            text = unmark(as_csv([_plain(other) for other in row.values()]))
            self._rejects.add(reason, column, file=self._body.name, row=number, value=value, text=text)
        return pc.invert(bad)

    def keep_utf8(self) -> None:
        """Reject the rows with a text that is not UTF-8."""
        for name in self.present:
            if pa.types.is_string(self.batch.column(name).type):
                bad = pc.match_substring_regex(self.batch.column(name), MARKED).fill_null(False)
                self.keep(self.reject(bad, "encoding", name))

    def keep_identified(self, columns: list[str]) -> None:
        """Reject the rows without a value in any of the columns that identify a row."""
        blank = functools.reduce(pc.and_, [_column(self.batch, name).is_null() for name in columns])
        present = columns[0] in self.present
        self.keep(self.reject(blank, "id", columns[0]) if present else pc.invert(blank))

    def add_missing(self, name: str) -> None:
        """Add a column of nulls if the body lacks `name`, which other bodies have."""
        if name not in self.present:
            self.batch = self.batch.append_column(name, pa.nulls(len(self), pa.string()))


def _false(mask: pa.BooleanArray) -> int:
    return len(mask) - (pc.sum(mask).as_py() or 0)


def _row_texts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows, with numbers as text, as most sources have them."""
    arrays = [
        values.cast(pa.string()) if name != ROW and is_number(values.type) else values
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names).to_pylist()


def _plain(value: Any) -> str | None:
    """Return a value for rejected.parquet: text as it is, and bytes and lists shortened."""
    return value if value is None or isinstance(value, str) else shown(value)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the batch's column, or nulls if the body lacks it."""
    return batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
