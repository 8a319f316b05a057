"""A table or a query as a source: slices of days, each read when it has changed."""

import datetime as dt
import hashlib
import logging
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nightly.io.hints import did_you_mean
from nightly.records.data_config import EPOCHS, column_name
from nightly.records.source_config import SqlSource
from nightly.sources.base import Context, Fetched, Part
from nightly.sources.errors import RefusedError
from nightly.sources.row_groups import write_parquet
from nightly.sources.sql.database import Bounds, Column, Database
from nightly.sources.sql.run_ahead import MOST, RunAhead
from nightly.sources.sql.statement import Relation, select_changes, select_rows
from nightly.sources.sql.times import Times

log = logging.getLogger(__name__)


@dataclass
class _Changes:
    """How many rows there are, and when they changed.

    :ivar checksum: of the times of all changes. A transaction may commit behind a later change, so the latest is not
        enough; 0 if the database has none
    """

    rows: int = 0
    latest: Any = None
    checksum: int = 0

    def add(self, rows: Any, latest: Any, checksum: Any) -> None:
        self.rows += int(rows)
        self.latest = max(filter(None, (self.latest, latest)), default=None)
        self.checksum += int(checksum or 0)

    def __str__(self) -> str:
        checksum = f", checksum {self.checksum}" if self.checksum else ""
        return f"{self.rows} rows, changed {self.latest or 'never'}{checksum}"


class Sql:
    """The rows of a window. `parts` connects; what it and `fetch` read is of one moment, if the database can.

    The connection is closed with the source.
    """

    def __init__(self, config: SqlSource, context: Context, connect: Callable[[], Database]) -> None:
        self._config, self._context, self._connect = config, context, connect
        self._indices: dict[str, int] = {}
        self._starts: list[dt.date] = []
        self._changes: dict[int, _Changes] = defaultdict(_Changes)  # by slice

    def parts(self) -> list[Part]:
        self._database = self._connect()
        weakref.finalize(self, self._database.close)
        with self._closed_on_error():
            return self._parts()

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        index = self._indices[part.name]
        if self._changed_at and not self._changes[index].rows:
            return Fetched()
        with self._closed_on_error():
            timeless = self._times is None
            rows = self._database.rows(self._sql, {}, self._columns) if timeless else self._ahead.rows(index)
            if not write_parquet(target, rows):
                target.unlink(missing_ok=True)  # of a try that was killed
        return Fetched()

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """A night that failed holds no transaction open: it would keep the database from clearing old rows away."""
        try:
            yield
        except BaseException:
            self._database.close()
            raise

    def _parts(self) -> list[Part]:
        config = self._config
        self._relation = Relation.of(self._database, config.table, config.query)
        described = self._described()
        self._columns, time, self._changed_at = self._chosen(described)
        self._sql = select_rows(self._database, self._relation, self._columns, time)
        signature = hashlib.sha256(repr([(c.name, c.declared) for c in self._columns]).encode()).hexdigest()[:8]
        name = f"{self._database.name} {config.table or 'query'}"
        if time is None:
            if self._relation.own_window:
                raise RefusedError("source.query has :window_start or :window_end, and data.time_column is empty.")
            self._times = None
            if self._changed_at:
                query = select_changes(self._database, self._relation, "", None, self._changed_at)
                ((_, *figures),) = self._figures(query, {})
                self._changes[0].add(*figures)
            self._indices = {name: 0}
            return [Part(name, fingerprint=self._fingerprint(0, signature))]
        self._times = Times(time, self._context.time_format, self._context.time_zone)
        self._starts = self._slices()
        if self._changed_at:
            self._add_changes()
        most = 1 if self._relation.own_window or not self._sorts_like_arrow(time) else MOST
        database, sql, times, columns = self._database, self._sql, self._times, self._columns

        def query(first: dt.date, end: dt.date) -> Iterator[pa.RecordBatch]:  # without self, which is freed at once
            return database.rows(sql, _bounds(times, first, end), columns)

        self._ahead = RunAhead(query, times, columns.index(time), self._starts, most)
        parts = []
        for index, start in enumerate(self._starts[:-1]):
            last = self._starts[index + 1] - dt.timedelta(days=1)
            days = f"{start}" if last == start else f"{start} to {last}"
            fingerprint = self._fingerprint(index, signature)
            parts.append(
                Part(f"{name} {days}", fingerprint=fingerprint, end=self._times.begin(self._starts[index + 1]))
            )
            self._indices[parts[-1].name] = index
        return parts

    def _described(self) -> list[Column]:
        """Return the columns of the table or query. Raises RefusedError for two of one name."""
        window = self._context.window
        start, end = (moment.astimezone(dt.UTC).replace(tzinfo=None) for moment in (window.start, window.end))
        guess: Bounds = {"window_start": start, "window_end": end}
        if self._context.time_format in EPOCHS:
            unit = 1_000 if self._context.time_format == "epoch_ms" else 1
            guess = {
                "window_start": int(window.start.timestamp()) * unit,
                "window_end": int(window.end.timestamp()) * unit,
            }
        columns = self._database.describe(self._relation.query, guess)
        names = [column.name for column in columns]
        for name in names:
            if names.count(name) > 1:
                raise RefusedError(
                    f"{self._database.name}: the query has two columns named {name!r}: name each with AS, or list the "
                    "columns that you need."
                )
        return columns

    def _chosen(self, described: list[Column]) -> tuple[list[Column], Column | None, Column | None]:
        """Return the columns to read, the time column, and the column of changes. Raises RefusedError."""
        by_name = {column.name: column for column in described}
        place = f"{self._database.name}: {self._config.table or 'the query'}"

        def named(name: str, key: str) -> Column:
            if name not in by_name:
                raise RefusedError(f"{place} has no column {name!r} of {key}{did_you_mean(name, list(by_name))}")
            return by_name[name]

        time = None
        if wanted := self._context.time_column:
            rename = self._context.rename
            by_snapshot = {rename.get(column.name) or column_name(column.name): column for column in described}
            if wanted not in by_snapshot:
                near = did_you_mean(wanted, list(by_snapshot))
                raise RefusedError(f"{place} has no column {wanted!r}, which is data.time_column{near}")
            time = by_snapshot[wanted]
        columns = [named(name, "source.columns") for name in self._config.columns] or described
        if time and time not in columns:
            columns = [time, *columns]
        changed_at = named(self._config.changed_at, "source.changed_at") if self._config.changed_at else None
        return columns, time, changed_at

    def _slices(self) -> list[dt.date]:
        """Return the first day of each slice of the window, and the day after the last."""
        first, last = self._times.days(self._context.window)
        days = self._config.slice_days
        start = first.toordinal() // days * days
        slices = (last.toordinal() - start) // days + 1
        return [dt.date.fromordinal(max(start + n * days, 1)) for n in range(slices + 1)]

    def _sorts_like_arrow(self, time: Column) -> bool:
        return time.kind != "text" or self._database.sorts_bytes

    def _add_changes(self) -> None:
        """Ask for the changes of each slice."""
        first, end = self._starts[0], self._starts[-1]
        day_sql = self._times.day_sql(self._times.column.order, first, self._database.substring)
        query = select_changes(self._database, self._relation, day_sql, self._times.column, self._changed_at)
        for value, *figures in self._figures(query, _bounds(self._times, first, end)):
            day = self._times.day(value, first)
            if day is not None:
                self._changes[(day - first).days // self._config.slice_days].add(*figures)

    def _figures(self, query: str, bounds: Bounds) -> list[tuple[Any, ...]]:
        batches = self._database.rows(query, bounds, [])
        return [
            tuple(column[row].as_py() for column in batch.columns) for batch in batches for row in range(batch.num_rows)
        ]

    def _fingerprint(self, index: int, signature: str) -> str:
        return f"{self._changes[index]}, columns {signature}" if self._changed_at else ""


def _bounds(times: Times, first: dt.date, end: dt.date) -> dict[str, Any]:
    return {"window_start": times.bound(first), "window_end": times.bound(end)}
