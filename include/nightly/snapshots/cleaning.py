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
        data, columns, typed = self.times.data, self.conversion.columns, dict[str, pa.Array]()

        def reject(bad: pa.Array, reason: str, column: str, sentences: pa.Array | None = None) -> pa.Array:
            """Reject the rows where `bad` is true; return the mask of the others.

            :param sentences: what is wrong with each such row, in place of its value
            """
            if not pc.any(bad).as_py():
                return pc.invert(bad)
            wrong = sentences.filter(bad).to_pylist() if sentences is not None else itertools.repeat(None)
            for row, sentence in zip(_rows(batch.filter(bad)), wrong, strict=False):
                number = row.pop(ROW)
                value = sentence or unmark(_plain(row[column]) or "")
                text = unmark(as_csv([_plain(other) for other in row.values()]))
                self.rejects.add(reason, column, file=body.name, row=number, value=value, text=text)
            return pc.invert(bad)

        def keep(good: pa.Array) -> None:
            nonlocal batch, typed
            if pc.all(good).as_py():
                return  # a filter would copy the rows
            batch = batch.filter(good)
            typed = {name: values.filter(good) for name, values in typed.items()}

        present = [name for name in batch.schema.names if name != ROW]
        if body.marked:
            for name in present:
                if pa.types.is_string(batch.column(name).type):
                    bad = pc.match_substring_regex(batch.column(name), MARKED).fill_null(False)
                    keep(reject(bad, "encoding", name))

        for name in (data.time_column, data.known_at):
            if name and name not in present:  # this body lacks it, and others have it
                batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
        if name := data.time_column:
            typed[name] = self.times.parse(name, batch.column(name))
            keep(reject(typed[name].is_null(), "time", name))
        self.seen.rows += batch.num_rows
        if name:
            self.seen.add_times(typed[name])
            inside = self.times.in_window(typed[name])
            self.seen.outside += _false(inside)
            keep(inside)
        if name := data.known_at:
            typed[name] = self.times.parse(name, batch.column(name))
            keep(reject(typed[name].is_null(), "time", name))
            known = self.times.known(typed[name], batch.column(name).type)
            self.seen.not_known_yet += _false(known)
            keep(known)

        if data.id_columns:
            blank = functools.reduce(pc.and_, [_column(batch, name).is_null() for name in data.id_columns])
            keep(reject(blank, "id", data.id_columns[0]) if data.id_columns[0] in present else pc.invert(blank))

        for name in columns:
            if name in present and name not in typed:
                values, faults = self.conversion.convert(name, batch.column(name))
                typed[name] = values
                if present_faults := [fault for fault in faults if pc.any(fault.rows).as_py()]:
                    good = [reject(fault.rows, fault.reason, name, fault.sentences) for fault in present_faults]
                    keep(functools.reduce(pc.and_, good))
        arrays = [typed.get(name, pa.nulls(batch.num_rows, TYPES[kind])) for name, kind in columns.items()]
        return pa.RecordBatch.from_arrays(arrays, list(columns))


def _false(mask: pa.BooleanArray) -> int:
    return len(mask) - (pc.sum(mask).as_py() or 0)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
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
