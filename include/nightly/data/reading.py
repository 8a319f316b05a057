"""A data set as Arrow batches, a bounded one at a time, whatever it is: CSV, TFRecord of tf.Example, Parquet, snapshot.

CSV says nothing of types, so its columns are looked through first: whole numbers are INT, numbers FLOAT, anything else
BYTES. Parquet files of different types meet in the wider one.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from nightly.data import files, kinds
from nightly.data.bad_rows import BadRows
from nightly.data.errors import DataError
from nightly.examples.encoding import as_features
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.schemas.curated import read_schema
from nightly.snapshots import readers
from nightly.snapshots.body import MARKED, ROW
from nightly.snapshots.errors import SnapshotError
from nightly.snapshots.ingest import column_names

BATCH_ROWS = 32_768

Columns = dict[str, kinds.Kind]


@dataclass(frozen=True)
class DataSet:
    """Where the rows are, and how they are read. It can be pickled, so that workers elsewhere can read its files.

    :ivar types: a schema's types by column
    :ivar strict: a value that is not of its schema's type makes a bad row; otherwise its column gets the type that
        holds all its values, and validation tells
    :ivar config: a model's: columns get its names, those that it ignores and rows without its label are left out
    :ivar max_rejected_share: of rows that cannot be read
    """

    name: str
    kind: files.Kind
    files: list[str]
    types: Columns = field(default_factory=dict)
    strict: bool = False
    config: ModelConfig | None = None
    max_rejected_share: float = 0.0

    @cached_property
    def columns(self) -> Columns:
        """The columns of a CSV or Parquet data set, and what their values are; one pass over CSV. Raises DataError."""
        return self.settled(map(self.infer, self.files))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows as `features` makes them: what TFDV and the encoder of tf.Example take. Raises DataError."""
        return map(self.features, self.rows())

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All rows; columns of values, and of lists where the data have lists (TFRecord always). Raises DataError."""
        bad, kept = BadRows(), 0
        for file in self.files:
            for batch in self.read(file, self.columns, bad):
                kept += batch.num_rows
                yield batch
        bad.check(self.name, kept, self.max_rejected_share)

    def infer(self, file: str) -> Columns:
        """The columns of one file; none of TFRecord, where each example says what it holds."""
        return {"csv": self._infer_csv, "parquet": _infer_parquet, "tfrecord": lambda _: {}}[self.kind](file)

    def settled(self, found: Iterable[Columns]) -> Columns:
        """What the files have, in the schema's types where they hold all of it."""

        def settle(column: str, kind: kinds.Kind) -> kinds.Kind:
            wanted = self.types.get(column)
            if wanted and (self.strict or kinds.fits(kind, wanted)):
                return wanted
            return "float" if kind == "whole" else kind

        return {column: settle(column, kind) for column, kind in kinds.merge(found).items()}

    def read(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        """The rows of one file; what is no row goes to `bad`. Raises DataError."""
        reader = {"csv": self._read_csv, "parquet": _read_parquet, "tfrecord": _read_tfrecord}[self.kind]
        for batch in reader(file, columns, bad):
            labelled = self._labelled(batch)
            for start in range(0, labelled.num_rows, BATCH_ROWS):
                yield labelled.slice(start, BATCH_ROWS)

    def features(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows as a tf.Example holds them: lists of int64, float32 or bytes, null where missing."""
        ignored = self.config.data.ignore if self.config else []
        names = [name for name in batch.schema.names if name not in ignored]
        flat = [n for n in names if not kinds.is_list(batch[n].type) and not pa.types.is_null(batch[n].type)]
        made = as_features(batch, flat)
        arrays = [made[name] if name in flat else kinds.feature_lists(batch[name]) for name in names]
        return pa.RecordBatch.from_arrays(arrays, names)

    def _labelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """As in a night: nothing is trained or judged by a row without its label. Serving data have none at all."""
        if not self.config or self.config.data.label.column not in batch.schema.names:
            return batch
        return batch.filter(kinds.scalars(batch[self.config.data.label.column]).is_valid())

    def _bodies(self, file: str) -> Iterator[tuple[readers.Body, dict[str, str]]]:
        """The CSV streams of a file, with the column of each header."""
        remote = files.is_remote(file)
        for body in [readers.csv_body(file, partial(files.open_file, file))] if remote else readers.bodies(Path(file)):
            yield body, column_names(body, self.config.data.rename) if self.config else {h: h for h in body.headers}

    def _texts(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        """A CSV file's rows, as columns of text and with their numbers."""
        try:
            for body, names in self._bodies(file):
                for batch in readers.read(body, names, bad, _row_test(body, names, columns)):
                    yield _decoded(batch, body, bad)
                if body.truncated:
                    raise DataError(f"{body.name} is truncated: {body.truncated}. Fetch it again.")
        except SnapshotError as error:
            raise DataError(str(error)) from error

    def _infer_csv(self, file: str) -> Columns:
        try:
            found: Columns = {column: "null" for _, names in self._bodies(file) for column in names.values()}
        except SnapshotError as error:
            raise DataError(str(error)) from error
        if self.strict and found.keys() <= self.types.keys():
            return found
        for batch in self._texts(file, {}, BadRows()):
            for name in batch.schema.names:
                if name != ROW:
                    found[name] = kinds.kind_of_texts(batch[name], found[name])
        return found

    def _read_csv(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        for batch in self._texts(file, columns, bad):
            arrays, good = [], np.ones(batch.num_rows, bool)
            for name, kind in columns.items():
                values = batch[name] if name in batch.schema.names and kind != "null" else pa.nulls(batch.num_rows)
                if kind in kinds.NUMERIC and name in batch.schema.names:
                    values, wrong = kinds.parsed(values, kind)
                    good = _reject(batch, wrong, good, "no number", name, file, bad)
                arrays.append(values)
            typed = pa.RecordBatch.from_arrays(arrays, list(columns))
            yield typed if good.all() else typed.filter(pa.array(good))


def open_data(
    data: str | Path,
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    strict: bool = False,
    max_rejected_share: float | None = None,
    listed: bool = True,
) -> DataSet:
    """The data set at `data`, which is what find_files takes. Raises DataError, ContractError, SchemaError.

    :param model: read it as the nights of this model do: column names, types, ignored columns, max_rejected_share
    :param schema: types of columns; by default the model's curated one, where there is one
    :param listed: False: nothing is looked up yet in a bucket; its pattern stands for the files
    """
    kind, found = files.find_files(data) if listed else files.unlisted(str(data))
    config = load_config(model) if model else None
    if config and schema is None:
        with suppress(FileNotFoundError):  # a new model has none yet
            schema = read_schema(config.folder)
    if max_rejected_share is None:
        max_rejected_share = config.data_gate.max_rejected_share if config else 0.0
    known = kinds.OF_SCHEMA
    types = {feature.name: known[feature.type] for feature in schema.feature if feature.type in known} if schema else {}
    return DataSet(str(data), kind, found, types, strict, config, max_rejected_share)


def _row_test(body: readers.Body, names: dict[str, str], columns: Columns):
    """Whether a line inside of a quote that is not closed is a row: told by its numbers, where it has any."""
    numeric = [n for n, header in enumerate(body.headers) if columns.get(names[header]) in kinds.NUMERIC]

    def is_row(fields: list[str]) -> bool:
        if len(fields) != len(body.headers) or not numeric:
            return False
        texts = pa.array([fields[n] or None for n in numeric], pa.string())
        return texts.null_count < len(texts) and not pc.any(kinds.parsed(texts, "float")[1]).as_py()

    return is_row


def _decoded(batch: pa.RecordBatch, body: readers.Body, bad: BadRows) -> pa.RecordBatch:
    """Without the rows that have a byte that is not UTF-8."""
    if not body.marked:
        return batch
    good = np.ones(batch.num_rows, bool)
    for name in batch.schema.names[:-1]:
        wrong = pc.match_substring_regex(batch[name], MARKED).fill_null(False)
        good = _reject(batch, wrong, good, "not UTF-8", name, body.name, bad)
    return batch.filter(pa.array(good))


def _reject(
    batch: pa.RecordBatch, wrong: pa.Array, good: np.ndarray, reason: str, column: str, file: str, bad: BadRows
) -> np.ndarray:
    """The rows that stay good; those that were and are `wrong` become bad rows."""
    if not pc.any(wrong).as_py():
        return good
    now = wrong.to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(now & good):
        value = batch[column][int(row)].as_py()
        bad.add(reason, column, file=file, row=batch[ROW][int(row)].as_py(), value=value, text="")
    return good & ~now


def _parquet(file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(files.open_file(file))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not Parquet, or is damaged: {error}") from error


def _infer_parquet(file: str) -> Columns:
    try:
        return {column.name: kinds.kind_of_field(column) for column in _parquet(file).schema_arrow}
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _read_parquet(file: str, columns: Columns, _: BadRows) -> Iterator[pa.RecordBatch]:
    try:
        for batch in _parquet(file).iter_batches(batch_size=BATCH_ROWS):
            held = {name: kinds.as_kind(batch[name], columns[name]) for name in batch.schema.names}
            arrays = [held.get(name, pa.nulls(batch.num_rows)) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as the schema has it, or to its end: {error}") from error


def _read_tfrecord(file: str, _: Columns, __: BadRows) -> Iterator[pa.RecordBatch]:
    decoder = ExamplesToRecordBatchDecoder()
    records = tf.data.TFRecordDataset([file], "GZIP" if files.is_gzip(file) else "", buffer_size=1 << 20)
    number = 0
    try:
        for serialized in records.batch(BATCH_ROWS).as_numpy_iterator():
            try:
                yield decoder.DecodeBatch(serialized.tolist())
            except Exception as error:  # pybind11 gives RuntimeError or ValueError
                where = f"{file}, records {number + 1} to {number + len(serialized)}"
                raise DataError(f"{where}: one is no tf.Example, or two disagree on a feature: {error}") from error
            number += len(serialized)
    except tf.errors.OpError as error:
        raise DataError(
            f"{file} is no TFRecord, or is damaged or cut off after record {number} or later: {error.message}"
        ) from error
