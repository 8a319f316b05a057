"""Read the predictions that clients logged (client/nightly_client/log.py) as Arrow tables. Needs no TensorFlow."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.errors import DamageError
from nightly.state import current
from nightly_client import read_tfrecord

ROWS = 8_192  # of a table
SLACK = dt.timedelta(hours=1)  # between the clocks of the client and of the file server
FIELDS = {  # the client's metadata of each record; None if a record lacks it
    "serving/id": pa.string(),
    "serving/time_micros": pa.int64(),
    "serving/model": pa.string(),
    "serving/version": pa.int64(),
    "serving/label": pa.string(),
    "serving/caller": pa.string(),
    "serving/removed": pa.list_(pa.string()),  # features of the request that are not in the record
    "serving/hashed": pa.list_(pa.string()),  # features whose values are hashes
}
TYPES = {pa.bool_(): pa.int64(), pa.int64(): pa.int64(), pa.float64(): pa.float64()}  # all else is text
Record = dict[str, list[Any]]


class DamagedLogError(DamageError, ValueError):
    """A file of logged predictions cannot be read. The message names it and says what to do."""


def read(folder: Path, start: dt.datetime | None = None, end: dt.datetime | None = None) -> Iterator[pa.Table]:
    """Yield the predictions logged from `start` (inclusive) to `end` (exclusive), in tables of at most ROWS rows.

    Each table has the columns of FIELDS, with one value a row, and a column of lists (binary, int64 or double) for each
    feature and each `prediction/NAME` in its rows. So tables may have different columns. If a feature has both text and
    numbers in one table, all its values are text. Files that are still being written are left out.

    Raises DamagedLogError for an unreadable file, because skipping it silently would falsify a comparison.
    """

    def may_hold(name: str, written: dt.datetime) -> bool:
        return Path(name).suffix in READERS and _may_hold(name, written, start, end)

    state = current()
    for path in files(state.receive(Path(folder), may_hold)):
        if not may_hold(path.name, dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)):
            continue
        try:
            records = _within(READERS[path.suffix](path), start, end)
            while chunk := list(islice(records, ROWS)):
                yield _table(chunk)
        except (ValueError, TypeError, KeyError, OverflowError, pa.ArrowException) as error:
            address, problem = state.address(Path(folder)), str(error).replace(str(path), path.name)
            raise DamagedLogError(
                f"{address}/{path.name} is damaged or no log of predictions ({problem}): bring it back from a copy, or "
                f"move it out of {address} to go on without its predictions"
            ) from error


def files(folder: Path) -> list[Path]:
    """Return the complete files of a log in this folder, oldest first."""
    return sorted(path for kind in READERS for path in folder.glob(f"predictions-*{kind}"))


def _may_hold(name: str, written: dt.datetime, start: dt.datetime | None, end: dt.datetime | None) -> bool:
    """Return whether a file may have records of this time, by the time in its name and that of its last change.

    So most of a long log is not read.
    """
    if start and written < start - SLACK:
        return False
    try:
        begun = dt.datetime.strptime(name.split("-")[1], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    except (ValueError, IndexError):
        return True
    return not end or begun < end + SLACK


def _within(records: Iterable[Record], start: dt.datetime | None, end: dt.datetime | None) -> Iterator[Record]:
    first, last = (int(moment.timestamp() * 1e6) if moment else None for moment in (start, end))
    for record in records:
        micros = record["serving/time_micros"][0]
        if (first is None or micros >= first) and (last is None or micros < last):
            yield record


def _json_lines(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _parquet(path: Path) -> Iterator[Record]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            for row in batch.to_pylist():
                yield {name: values for name, values in row.items() if values}


READERS = {".tfrecord": read_tfrecord, ".jsonl": _json_lines, ".parquet": _parquet}


def _table(records: list[Record]) -> pa.Table:
    columns = {}
    for name, kind in FIELDS.items():
        many = pa.types.is_list(kind)
        column = pa.array([record.get(name) for record in records], kind if many else pa.list_(kind))
        columns[name] = column if many else pc.list_element(column, 0)
    for name in sorted({name for record in records for name in record} - FIELDS.keys()):
        columns[name] = _lists([record.get(name) for record in records])
    return pa.table(columns)


def _lists(rows: list[list[Any] | None]) -> pa.Array:
    try:
        lists = pa.array(rows)
    except pa.ArrowException:  # text among numbers
        rows = [values and [v if isinstance(v, (bytes, str)) else str(v) for v in values] for values in rows]
        return pa.array(rows, pa.list_(pa.binary()))
    return lists.cast(pa.list_(TYPES.get(lists.type.value_type, pa.binary())))
