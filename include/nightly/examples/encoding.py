"""Encode a snapshot's rows as tf.Example, split by a hash of their id, or by time.

Imports no TFX: Beam's workers import this.
"""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.examples.identity import identity
from nightly.examples.parquet import rows_per_batch
from nightly.examples.tfexample import serialized
from nightly.examples.tfrecord import framed
from nightly.state.workers import WorkerState

BATCH_ROWS = 16_384
SPLITS = ("train", "eval")
UNLABELLED = "unlabelled"
NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}


class RowGroup(NamedTuple):
    """A row group: the part of a Parquet file that can be read alone."""

    path: str
    number: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches of at most BATCH_ROWS, and fewer if they are large."""
        file = pq.ParquetFile(self.path)
        rows = rows_per_batch(file, BATCH_ROWS)
        yield from file.iter_batches(batch_size=rows, row_groups=[self.number])


def row_groups(snapshot: Path) -> list[RowGroup]:
    """Return all row groups of a snapshot, in order."""
    shards = sorted(snapshot.glob("rows-*.parquet"))
    return [RowGroup(str(path), n) for path in shards for n in range(pq.read_metadata(path).num_row_groups)]


class Encoding(NamedTuple):
    """Which columns are written, and how rows are split."""

    columns: list[str]
    id_columns: list[str]
    label: str
    eval_percent: int
    time_column: str = ""
    eval_from: dt.date | None = None  # the first of the days in the eval split, in UTC; None to split by a hash

    def schema(self, snapshot: pa.Schema) -> pa.Schema:
        """Return the schema of the columns as lists, as a decoder of tf.Example returns them."""
        return as_features(pa.RecordBatch.from_pylist([], snapshot), self.columns).schema

    def sides(self, batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        """Return split -> labelled rows, in order, with the types of tf.Example. Unlabelled rows are left out."""
        if self.label not in batch.schema.names:
            return dict.fromkeys(SPLITS, _values(batch.slice(0, 0), self.columns))
        label = batch.column(self.label)
        labelled = batch.filter(label.is_valid()) if label.null_count else batch
        in_eval = self._in_eval(labelled)
        sides = {"train": labelled.filter(pc.invert(in_eval)), "eval": labelled.filter(in_eval)}
        return {split: _values(rows, self.columns) for split, rows in sides.items()}

    def _in_eval(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        if self.eval_from is None:
            return pa.array(split_hash(rows, self.id_columns) % 100 < self.eval_percent)
        start = dt.datetime.combine(self.eval_from, dt.time(), dt.UTC)
        times = rows.column(self.time_column)
        return pc.greater_equal(times, pa.scalar(start, times.type))

    def encode_group(self, group: RowGroup, files: dict[str, BinaryIO]) -> dict[str, int]:
        """Write a row group's examples to each split's file; return the rows of each, and the unlabelled ones."""
        counts = dict.fromkeys([*SPLITS, UNLABELLED], 0)
        for batch in group.batches():
            sides = self.sides(batch)
            for split, rows in sides.items():
                files[split].write(framed(serialized(rows)))
                counts[split] += rows.num_rows
            counts[UNLABELLED] += batch.num_rows - sum(side.num_rows for side in sides.values())
        return counts


@dataclass(frozen=True)
class Shards:
    """What Beam's workers write: a file of each split for each row group, whichever worker has it."""

    encoding: Encoding
    snapshot: str
    outputs: dict[str, str]  # split -> path of its files, without -00000-of-00001
    count: int
    state: WorkerState = field(default_factory=WorkerState)

    def write(self, shard: tuple[int, RowGroup]) -> dict[str, int]:
        """Write the shard's files, and return the rows of each split, and the unlabelled ones."""
        number, group = shard
        self.state.fetch(self.snapshot)
        with ExitStack() as opened:
            files = {}
            for split, output in self.outputs.items():
                path = Path(f"{output}-{number:05d}-of-{self.count:05d}")
                files[split] = opened.enter_context(opened.enter_context(self.state.writing(path)).open("wb"))
            return self.encoding.encode_group(group, files)

    def save_counts(self, counts: dict[str, int], path: str) -> None:
        """Write the sum of all counts, for the driver."""
        with self.state.writing(Path(path)) as part:
            part.write_text(json.dumps(counts))


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Add up what `Shards.write` returns."""
    return dict(sum(map(Counter, counts), Counter()))


def split_hash(batch: pa.RecordBatch, id_columns: list[str]) -> np.ndarray:
    """Return a hash of each row's id (uint64, [rows]), the same on every machine, every night and in every batch."""
    columns = [batch.column(name) for name in id_columns]
    columns = [identity(values) if pa.types.is_list(values.type) else values for values in columns]  # pandas: no lists
    # Without nullable types, pandas turns integers with a missing value into floats, which have other hashes.
    ids = pa.Table.from_arrays(columns, id_columns).to_pandas(types_mapper=NULLABLE.get)
    # Few ids repeat, so categorizing them first would only cost time.
    return pd.util.hash_pandas_object(ids, index=False, categorize=False).to_numpy()


def as_features(batch: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
    """Convert columns to lists, as a decoder of tf.Example returns them: of at most one value unless they are lists."""
    return as_lists(_values(batch, columns))


def as_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Do the same as `as_features` for all columns, whose types are those of tf.Example already."""
    arrays = []
    for values in batch.columns:
        if pa.types.is_list(values.type):
            arrays.append(values)
            continue
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum(values.is_valid().to_numpy(zero_copy_only=False), out=offsets[1:])
        missing = values.is_null() if values.null_count else None
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets), values.drop_null(), mask=missing))
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _values(batch: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
    """Return the columns with the types of tf.Example."""
    arrays = []
    for name in columns:
        values = batch.column(name)
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("s", values.type.tz), safe=False)  # int64: Unix seconds
        arrays.append(values.cast(_feature_type(values.type)))
    return pa.RecordBatch.from_arrays(arrays, columns)


def _feature_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type in tf.Example: int64, float32 or bytes, or a list of them."""
    if pa.types.is_list(data_type):
        return pa.list_(_feature_type(data_type.value_type))
    if pa.types.is_integer(data_type) or pa.types.is_boolean(data_type) or pa.types.is_timestamp(data_type):
        return pa.int64()
    if pa.types.is_floating(data_type):
        return pa.float32()
    return pa.binary()
