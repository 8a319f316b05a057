"""Read bodies (CSV, JSON lines, Avro, TFRecord of tf.Example, Parquet) as batches of columns.

Every value is a string, or null for a blank. The ingest assigns types, the same way for every kind of body. Only lists
and bytes, and times and exact numbers in Parquet and Avro, are passed on as they are.
"""

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from nightly.records.data_config import column_name
from nightly.records.source_config import FileFormat
from nightly.snapshots import csv_rows
from nightly.snapshots.body import ROW, Body, RowTest
from nightly.snapshots.csv_rows import read_csv, read_headers
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.json_rows import read_keys, read_objects
from nightly.snapshots.parquet_rows import read_columns, read_rows
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.streams import open_member, open_stream
from nightly.snapshots.tfrecord_rows import read_features, read_records
from nightly.sources.files.formats import IN_ARCHIVES, compression_of, kind_of, members_of


def bodies(path: Path, suffix: str = "", partition: Mapping[str, str | None] = {}) -> Iterator[Body]:
    """Yield the streams in a file, with their headers. Raises UnreadableBodyError or ColumnError.

    :param suffix: tells the file's kind if its name does not
    :param partition: columns of all rows of the file, unless it has them itself
    """
    name = suffix or path.name
    kind = kind_of(name)
    if kind is None:
        raise UnreadableBodyError(f"{path} is neither CSV, JSON lines, Avro, TFRecord nor Parquet by its name.")
    streams: list[tuple[str, FileFormat, Callable[[], Any]]]
    if compression_of(name) == ".zip":
        with _readable(str(path), kind), zipfile.ZipFile(path) as archive:
            # A suffix of .zip alone leaves the kind to the members' names; .csv.zip comes of `source.format`.
            members = members_of(archive, kind if suffix not in ("", ".zip") else "")
        if not members:
            raise UnreadableBodyError(
                f"{path} is a zip archive without a file that can be read: {IN_ARCHIVES}. Name the kind of its files: "
                "`source.format` in config.toml, --format of bin/new."
            )
        streams = [(f"{path}:{member}", kind, partial(open_member, path, member)) for member, kind in members.items()]
    else:
        streams = [(str(path), kind, partial(open_stream, path, name))]
    for name, kind, opened in streams:
        body = Body(name, kind, opened)
        with _readable(name, kind):
            _read_headers(body)
        own = {column_name(header) for header in body.headers}
        body.partition = {key: value for key, value in partition.items() if column_name(key) not in own}
        yield body


def _read_headers(body: Body) -> None:
    if body.kind == "avro":
        from nightly.snapshots.avro_rows import read_fields  # fastavro takes 0.1 s; only Avro needs it

        return read_fields(body)
    readers = {"csv": read_headers, "json": read_keys, "parquet": read_columns, "tfrecord": read_features}
    return readers[body.kind](body)


def csv_body(name: str, opened: Callable[[], IO[bytes]]) -> Body:
    """Return a CSV stream that is not a local file; a name in .gz means gzip.

    Raises UnreadableBodyError or ColumnError.
    """
    unpacked: Callable[[], Any] = (lambda: gzip.GzipFile(fileobj=opened())) if name.lower().endswith(".gz") else opened
    body = Body(name, "csv", unpacked)
    with _readable(name, "csv"):
        read_headers(body)
    return body


def read(
    body: Body, columns: dict[str, str], rejects: Rejects, is_row: RowTest, kinds: Mapping[str, str] = {}
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `body` in batches; record malformed rows in `rejects`.

    A row that the end of the body cuts is left out, and `body.truncated` is set. Raises UnreadableBodyError.

    :param columns: header -> column name
    :param is_row: tells whether fields, in the body's order, form a row; it finds the rows inside an unclosed quote
    :param kinds: column -> its type in the snapshot; without it, a string. CSV has strings only
    """
    with _readable(body.name, body.kind):
        for batch in _batches(body, columns, rejects, is_row, kinds):
            yield _with_partition(batch, body, columns)


def _batches(
    body: Body, columns: dict[str, str], rejects: Rejects, is_row: RowTest, kinds: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    if body.kind == "csv":
        return read_csv(body, columns, rejects, is_row)
    kinds = dict.fromkeys(columns.values(), "string") | dict(kinds)
    if body.kind == "avro":
        from nightly.snapshots.avro_rows import read_avro

        return read_avro(body, columns, rejects, kinds)
    readers = {"json": read_objects, "parquet": read_rows, "tfrecord": read_records}
    return readers[body.kind](body, columns, rejects, kinds)


def _with_partition(batch: pa.RecordBatch, body: Body, columns: dict[str, str]) -> pa.RecordBatch:
    """Return the batch with the columns that the file's folders give, before ROW."""
    if not body.partition:
        return batch
    values = [pa.array([value or None], pa.string()) for value in body.partition.values()]
    zeros = pa.array(np.zeros(batch.num_rows, np.int64))
    names = [*batch.schema.names[:-1], *(columns[key] for key in body.partition), ROW]
    return pa.RecordBatch.from_arrays(
        [*batch.columns[:-1], *(value.take(zeros) for value in values), batch.column(ROW)], names
    )


@contextlib.contextmanager
def _readable(name: str, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableBodyError(f"{error.filename} is gone; run the download again.") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UnreadableBodyError(f"{name} cannot be read to its end: {error}") from error
    except pa.ArrowInvalid as error:
        if kind == "parquet":
            raise UnreadableBodyError(f"{name} is not Parquet, or is damaged: {error}") from error
        longest = f"a row is longer than {csv_rows.BLOCK_BYTES >> 20} MiB"
        hint = f"; a quote is never closed, or {longest}" if "straddling" in str(error) else ""
        raise UnreadableBodyError(f"{name} is not CSV{hint}: {error}") from error
