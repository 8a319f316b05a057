"""Read a data set (CSV, JSON lines, Avro, TFRecord of tf.Example, Parquet or a snapshot) as bounded Arrow batches.

CSV has no types, so a first pass infers them: integers are INT, other numbers FLOAT, anything else BYTES. JSON lines
and Avro are read as if they were CSV. Columns of Parquet files with different types get the wider type.
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
from nightly.data.proposals import lists_of, sized_of
from nightly.examples.encoding import as_features
from nightly.examples.parquet import rows_per_batch
from nightly.examples.tfrecord import chunks
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.records.source_config import FileFormat
from nightly.schemas.curated import read_schema
from nightly.schemas.features import Sized, column_type, is_list, sized_features
from nightly.snapshots import readers
from nightly.snapshots.body import MARKED, ROW, refuse_duplicates
from nightly.snapshots.columns import column_names
from nightly.snapshots.errors import SnapshotError
from nightly.snapshots.lists import parse_lists

BATCH_ROWS = 32_768

Columns = dict[str, kinds.Kind]


@dataclass(frozen=True)
class Declared:
    """Features of several values or of bytes, by the schema."""

    lists: dict[str, str]  # feature -> its type in a snapshot
    sized: dict[str, Sized]


@dataclass(frozen=True)
class DataSet:
    """The files of a data set, and how to read them. It can be pickled for workers.

    :ivar types: column -> type in the schema
    :ivar strict: reject a row with a value of another type than the schema's; otherwise the column gets a type for all
        its values, and validation reports the difference
    :ivar config: a model's config: use its column names, and leave out ignored columns and unlabelled rows
    :ivar max_rejected_share: the largest share of unreadable rows
    :ivar declared: what the schema says about features of several values or of bytes; None without a schema
    """

    name: str
    kind: FileFormat
    files: list[str]
    types: Columns = field(default_factory=dict)
    strict: bool = False
    config: ModelConfig | None = None
    max_rejected_share: float = 0.0
    declared: Declared | None = None

    @cached_property
    def columns(self) -> Columns:
        """The columns of a CSV or Parquet data set with their kinds; reads CSV once. Raises DataError."""
        return self.resolve(map(self.infer, self.files))

    @cached_property
    def lists(self) -> dict[str, str]:
        """The columns of a CSV data set that hold JSON arrays -> their type in a snapshot."""
        if self.kind not in files.TEXT:
            return {}
        if self.declared:
            return self.declared.lists
        return next((lists_of(batch) for file in self.files[:1] for batch in self._texts(file, {}, BadRows())), {})

    @cached_property
    def sized(self) -> dict[str, Sized]:
        """The features that are measured by the sizes of their values; without a schema, those that are no text."""
        if self.declared:
            return self.declared.sized
        return next((sized_of(batch) for batch in self.batches()), {}) if self.kind not in files.TEXT else {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows as `features`, the input of TFDV and of the tf.Example encoder. Raises DataError."""
        return map(self.features, self.rows())

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows, as columns of values, or of lists if the data has lists (TFRecord always).

        Raises DataError.
        """
        bad, kept = BadRows(), 0
        for file in self.files:
            for batch in self.read(file, self.columns, bad):
                kept += batch.num_rows
                yield batch
        bad.check(self.name, kept, self.max_rejected_share)

    def infer(self, file: str) -> Columns:
        """Return the columns of one file; {} for TFRecord, whose examples have types of their own."""
        return {"parquet": _infer_parquet, "tfrecord": lambda _: {}}.get(self.kind, self._infer_csv)(file)

    def resolve(self, per_file: Iterable[Columns]) -> Columns:
        """Merge the files' columns, and give each the schema's type if that holds all its values."""

        def resolved(column: str, kind: kinds.Kind) -> kinds.Kind:
            if column in self.lists:
                return "string"
            schema_kind = self.types.get(column)
            if schema_kind and (self.strict or kinds.fits(kind, schema_kind)):
                return schema_kind
            return "float" if kind == "whole" else kind

        return {column: resolved(column, kind) for column, kind in kinds.merge(per_file).items()}

    def read(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one file; add malformed rows to `bad`. Raises DataError."""
        reader = {"parquet": _read_parquet, "tfrecord": _read_tfrecord}.get(self.kind, self._read_csv)
        for batch in reader(file, columns, bad):
            labelled = self._labelled(batch)
            for start in range(0, labelled.num_rows, BATCH_ROWS):
                yield labelled.slice(start, BATCH_ROWS)

    def features(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows as in tf.Example: lists of int64, float32 or bytes; null if missing."""
        ignored = self.config.data.ignore if self.config else []
        names = [name for name in batch.schema.names if name not in ignored]
        flat = [n for n in names if not kinds.is_list(batch[n].type) and not pa.types.is_null(batch[n].type)]
        lists = as_features(batch, flat)
        arrays = [lists[name] if name in flat else kinds.feature_lists(batch[name]) for name in names]
        return pa.RecordBatch.from_arrays(arrays, names)

    def _labelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with a label, as the nights do. Serving data has no label column and stays complete."""
        if not self.config or self.config.data.label.column not in batch.schema.names:
            return batch
        return batch.filter(kinds.scalars(batch[self.config.data.label.column]).is_valid())

    def _bodies(self, file: str) -> Iterator[tuple[readers.Body, dict[str, str]]]:
        """Yield the streams of a file of text, each with header -> column name."""
        remote = files.is_remote(file)
        for body in [readers.csv_body(file, partial(files.open_file, file))] if remote else readers.bodies(Path(file)):
            yield body, column_names(body, self.config.data.rename) if self.config else {h: h for h in body.headers}

    def _texts(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield a file's rows as columns of text and their row numbers."""
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
            columns: Columns = {column: "null" for _, names in self._bodies(file) for column in names.values()}
        except SnapshotError as error:
            raise DataError(str(error)) from error
        if self.strict and columns.keys() <= self.types.keys():
            return columns
        for batch in self._texts(file, {}, BadRows()):
            for name in batch.schema.names:
                if name != ROW:
                    columns[name] = kinds.kind_of_texts(batch[name], columns[name])
        return columns

    def _read_csv(self, file: str, columns: Columns, bad: BadRows) -> Iterator[pa.RecordBatch]:
        for batch in self._texts(file, columns, bad):
            arrays, good = [], np.ones(batch.num_rows, bool)
            for name, kind in columns.items():
                values = batch[name] if name in batch.schema.names and kind != "null" else pa.nulls(batch.num_rows)
                if kind in kinds.NUMERIC and name in batch.schema.names:
                    values, invalid = kinds.parsed(values, kind)
                    good = _reject(batch, invalid, good, "no number", name, file, bad)
                elif name in self.lists and name in batch.schema.names:
                    values, faults = parse_lists(values, self.lists[name])
                    good = _reject(batch, faults.is_valid(), good, "no list", name, file, bad)
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
    offline: bool = False,
) -> DataSet:
    """Return the data set at `data`, a location as of `find_files`. Raises DataError, ContractError, SchemaError.

    :param model: read the data as this model's nights do: column names, types, ignored columns, max_rejected_share
    :param schema: the columns' types; by default the model's curated schema, if it has one
    :param offline: send no request to a bucket; its pattern stands for the files
    """
    kind, paths = files.find_files_offline(str(data)) if offline else files.find_files(data)
    config = load_config(model) if model else None
    if config and schema is None:
        with suppress(FileNotFoundError):  # a new model has no schema yet
            schema = read_schema(config.folder)
    if max_rejected_share is None:
        max_rejected_share = config.data_gate.max_rejected_share if config else 0.0
    declared = None
    if schema:
        lists = {feature.name: column_type(feature) for feature in schema.feature if is_list(feature)}
        declared = Declared(lists, sized_features(schema))
    known = kinds.OF_SCHEMA
    types = {feature.name: known[feature.type] for feature in schema.feature if feature.type in known} if schema else {}
    return DataSet(str(data), kind, paths, types, strict, config, max_rejected_share, declared)


def _row_test(body: readers.Body, names: dict[str, str], columns: Columns):
    """Return a test for rows inside an unclosed quote: as many fields as headers, with numbers in numeric columns."""
    numeric = [n for n, header in enumerate(body.headers) if columns.get(names[header]) in kinds.NUMERIC]

    def is_row(fields: list[str]) -> bool:
        if len(fields) != len(body.headers) or not numeric:
            return False
        texts = pa.array([fields[n] or None for n in numeric], pa.string())
        return texts.null_count < len(texts) and not pc.any(kinds.parsed(texts, "float")[1]).as_py()

    return is_row


def _decoded(batch: pa.RecordBatch, body: readers.Body, bad: BadRows) -> pa.RecordBatch:
    """Return the batch without rows that have a byte that is not UTF-8; these become bad rows."""
    if not body.marked:
        return batch
    good = np.ones(batch.num_rows, bool)
    for name in batch.schema.names[:-1]:
        invalid = pc.match_substring_regex(batch[name], MARKED).fill_null(False)
        good = _reject(batch, invalid, good, "not UTF-8", name, body.name, bad)
    return batch.filter(pa.array(good))


def _reject(
    batch: pa.RecordBatch, invalid: pa.Array, good: np.ndarray, reason: str, column: str, file: str, bad: BadRows
) -> np.ndarray:
    """Add the `good` rows that are `invalid` to `bad`; return the mask of the remaining good rows."""
    if not pc.any(invalid).as_py():
        return good
    rejected = invalid.to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(rejected & good):
        value = batch[column][int(row)].as_py()
        bad.add(reason, column, file=file, row=batch[ROW][int(row)].as_py(), value=value, text="")
    return good & ~rejected


def _parquet(file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(files.open_file(file))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not Parquet, or is damaged: {error}") from error


def _infer_parquet(file: str) -> Columns:
    schema = _parquet(file).schema_arrow
    try:
        refuse_duplicates(file, schema.names)
    except SnapshotError as error:
        raise DataError(str(error)) from error
    try:
        return {column.name: kinds.kind_of_field(column) for column in schema}
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _read_parquet(file: str, columns: Columns, _: BadRows) -> Iterator[pa.RecordBatch]:
    try:
        opened = _parquet(file)
        for batch in opened.iter_batches(batch_size=rows_per_batch(opened, BATCH_ROWS)):
            present = {name: kinds.as_kind(batch[name], columns[name]) for name in batch.schema.names}
            arrays = [present.get(name, pa.nulls(batch.num_rows)) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as the schema has it, or to its end: {error}") from error


def _read_tfrecord(file: str, _: Columns, __: BadRows) -> Iterator[pa.RecordBatch]:
    decoder = ExamplesToRecordBatchDecoder()
    records = tf.data.TFRecordDataset([file], "GZIP" if files.is_gzip(file) else "", buffer_size=1 << 20)
    number = 0
    try:
        for serialized in chunks(records.as_numpy_iterator(), BATCH_ROWS):
            try:
                yield decoder.DecodeBatch(serialized)
            except Exception as error:  # pybind11 raises RuntimeError or ValueError
                records_read = f"{file}, records {number + 1} to {number + len(serialized)}"
                raise DataError(
                    f"{records_read}: one is not a tf.Example, or two disagree on a feature: {error}"
                ) from error
            number += len(serialized)
    except tf.errors.OpError as error:
        raise DataError(
            f"{file} is not TFRecord, or is damaged or cut off after record {number} or later: {error.message}"
        ) from error
