"""Read bodies, CSV (plain, gzip, zip), TFRecord of tf.Example or Parquet, as batches of columns.

Every value is a string, or null for a blank. The ingest assigns types, the same way for every kind of body. Only lists
and bytes, and times and exact numbers in Parquet, are passed on as they are.
"""

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from nightly.snapshots import csv_rows
from nightly.snapshots.body import Body, RowTest
from nightly.snapshots.csv_rows import read_csv, read_headers
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.parquet_rows import read_columns, read_rows
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.tfrecord_rows import read_features, read_records
from nightly.sources.files import csv_members, kind_of


def bodies(path: Path) -> Iterator[Body]:
    """Yield the streams in a file, with their headers. Raises UnreadableBodyError or ColumnError."""
    streams: list[tuple[str, Callable[[], Any]]] = [(str(path), partial(path.open, "rb"))]
    if path.suffix.lower() == ".gz":
        streams = [(str(path), partial(gzip.open, path, "rb"))]
    elif path.suffix.lower() == ".zip":
        with _readable(str(path)), zipfile.ZipFile(path) as archive:
            members = csv_members(archive)
        streams = [(f"{path}:{member}", partial(_member, path, member)) for member in members]
    kind = kind_of(path.name)
    if kind is None:
        raise UnreadableBodyError(f"{path} is neither CSV, TFRecord nor Parquet by its name.")
    for name, opened in streams:
        body = Body(name, kind, opened)
        with _readable(name):
            if kind == "csv":
                read_headers(body)
            elif kind == "parquet":
                read_columns(body)
            else:
                read_features(body)
        yield body


def csv_body(name: str, opened: Callable[[], IO[bytes]]) -> Body:
    """Return a CSV stream that is not a local file; a name in .gz means gzip.

    Raises UnreadableBodyError or ColumnError.
    """
    unpacked: Callable[[], Any] = (lambda: gzip.GzipFile(fileobj=opened())) if name.lower().endswith(".gz") else opened
    body = Body(name, "csv", unpacked)
    with _readable(name):
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
    with _readable(body.name):
        if body.kind == "csv":
            yield from read_csv(body, columns, rejects, is_row)
        else:
            reader = read_rows if body.kind == "parquet" else read_records
            yield from reader(body, columns, rejects, dict.fromkeys(columns.values(), "string") | dict(kinds))


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableBodyError(f"{error.filename} is gone; run the download again.") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UnreadableBodyError(f"{name} cannot be read to its end: {error}") from error
    except pa.ArrowInvalid as error:
        if name.lower().endswith(".parquet"):
            raise UnreadableBodyError(f"{name} is not Parquet, or is damaged: {error}") from error
        longest = f"a row is longer than {csv_rows.BLOCK_BYTES >> 20} MiB"
        hint = f"; a quote is never closed, or {longest}" if "straddling" in str(error) else ""
        raise UnreadableBodyError(f"{name} is not CSV{hint}: {error}") from error


def _member(path: Path, member: str) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    opened = archive.open(member)
    archive.close()  # the file stays open until its member is closed
    return opened
