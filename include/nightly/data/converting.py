"""Convert a data set to TFRecord of tf.Example in this process: sharded, and split by a hash of each row's id."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from nightly.data import kinds
from nightly.data.errors import DataError
from nightly.data.files import is_remote
from nightly.data.reading import DataSet, open_data
from nightly.examples.encoding import split_hash
from nightly.io.atomic import sync_path
from nightly.io.hints import did_you_mean

FILE = "data_tfrecord"
UNSPLIT = ""  # the name of the only split if there is no division


def convert(
    data: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    shards: int = 1,
    gzip: bool = False,
    split: Mapping[str, int] | None = None,
    id_columns: Sequence[str] = (),
    max_rejected_share: float | None = None,
) -> dict[str, int]:
    """Write a data set as OUT/data_tfrecord-0000N-of-0000M[.gz] or OUT/Split-NAME/…; return split -> number of rows.

    `out` appears only when it is complete and on disk. A null becomes a missing feature, a time Unix seconds.

    :param out: a new or empty folder
    :param schema: the columns' types, by default the model's; a row with a value of another type is unreadable
    :param split: name -> percent of the ids. An id is always in the same split; `train=80, eval=20` divides as the
        nights do
    :param id_columns: the columns that identify a row; by default the model's, else all columns
    :raises DataError: the data cannot be read, or `out` has files already
    """
    target = new_folder(out)
    opened = open_data(data, model=model, schema=schema, strict=True, max_rejected_share=max_rejected_share)
    splitter = Splitter.create(split, id_columns, opened)
    if shards < 1:
        raise DataError(f"--shards {shards}: give 1 or more")
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        rows = _write(opened, splitter, staging, shards, gzip)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_path(target.parent)
    return rows


def new_folder(out: str | Path) -> Path:
    """Return the folder to write as a path. Raises DataError if it has files already or is remote."""
    target = Path(out).expanduser().absolute()
    if is_remote(str(out)):
        raise DataError(f"{out}: only a Beam runner writes there; give --runner")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target} is there already; remove it, or name another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


class Splitter:
    """Assigns rows to splits, by a hash of each row's id."""

    def __init__(self, percent: Mapping[str, int], id_columns: Sequence[str]) -> None:
        self.names = list(percent) or [UNSPLIT]
        self._percent = percent
        self._id_columns = list(id_columns)

    @classmethod
    def create(cls, split: Mapping[str, int] | None, id_columns: Sequence[str], data: DataSet) -> "Splitter":
        """Return a splitter. Raises DataError for a bad name, or if the percentages do not add up to 100."""
        if split and (sum(split.values()) != 100 or min(split.values()) < 1):
            raise DataError(f"--split {split}: the shares are whole percents above 0 that add up to 100")
        for name in split or {}:
            if not name.isidentifier():
                raise DataError(f"--split {name!r}: a split's name is letters, digits and _")
        return cls(split or {}, id_columns or (data.config.data.id_columns if data.config else ()))

    def split_numbers(self, rows: pa.RecordBatch) -> np.ndarray:
        """Return the index of each row's split: int, [rows].

        The last split takes the lowest hashes, as in the nights. Raises DataError if an id column is missing.
        """
        if not self._percent:
            return np.zeros(rows.num_rows, int)
        columns = self._id_columns or rows.schema.names
        for column in set(columns) - set(rows.schema.names):
            raise DataError(f"--id-columns: there is no feature {column!r}{did_you_mean(column, rows.schema.names)}")
        ids = pa.RecordBatch.from_arrays([kinds.scalars(rows[name]) for name in columns], columns)
        hashed = split_hash(ids, columns) % 100
        ends = np.cumsum(list(self._percent.values())[::-1])
        return len(ends) - 1 - np.searchsorted(ends, hashed, side="right")

    def folder(self, name: str) -> str:
        return f"Split-{name}" if name else ""


def encode(features: pa.RecordBatch) -> list[bytes]:
    """Return each row as a serialized tf.Example."""
    arrays = [pa.nulls(len(c), pa.list_(pa.binary())) if pa.types.is_null(c.type) else c for c in features.columns]
    return RecordBatchToExamplesEncoder().encode(pa.RecordBatch.from_arrays(arrays, features.schema.names))


def check_types(features: pa.RecordBatch, data: DataSet) -> None:
    """Raise DataError for a feature of another type than the schema's. Only TFRecord data can have one."""
    for name, expected in data.types.items():
        if name not in features.schema.names or pa.types.is_null(features[name].type):
            continue
        inner = features[name].type
        inner = inner.value_type if kinds.is_list(inner) else inner
        actual = "int64" if pa.types.is_integer(inner) else "float" if pa.types.is_floating(inner) else "string"
        if actual != expected and not pa.types.is_null(inner):
            raise DataError(f"{data.name}: {name} is {actual} there and {expected} in the schema; write the data again")


def _write(data: DataSet, splitter: Splitter, folder: Path, shards: int, gzip: bool) -> dict[str, int]:
    """Write all examples; return split -> number of rows."""
    written = [0] * len(splitter.names)
    paths = []
    with ExitStack() as stack:
        writers = []
        for name in splitter.names:
            (folder / splitter.folder(name)).mkdir(exist_ok=True)
            names = [f"{FILE}-{shard:05}-of-{shards:05}{'.gz' * gzip}" for shard in range(shards)]
            paths += [folder / splitter.folder(name) / file for file in names]
            options = "GZIP" if gzip else None
            files = [tf.io.TFRecordWriter(str(path), options) for path in paths[-shards:]]
            writers.append([stack.enter_context(file) for file in files])
        for rows in data.rows():
            features = data.features(rows)
            check_types(features, data)
            for example, number in zip(encode(features), splitter.split_numbers(rows).tolist(), strict=True):
                writers[number][written[number] % shards].write(example)
                written[number] += 1
    for path in paths:
        sync_path(path)
    return dict(zip(splitter.names, written, strict=True))
