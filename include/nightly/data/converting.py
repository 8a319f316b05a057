"""Any data set to TFRecord of tf.Example, in this process: Arrow batches, encoded in C++, sharded, split by a hash."""

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
WHOLE = ""  # the one split where there are none


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
    """Write a data set as OUT/data_tfrecord-0000N-of-0000M[.gz], or below OUT/Split-NAME; the rows of each split.

    `out` is there when all of it is whole and on disk, or not at all. Null is a missing feature, a time Unix seconds.

    :param out: a folder that does not exist yet
    :param schema: the types of columns, else the model's; a value of another type is a row that cannot be read
    :param split: name -> percent of the ids; the same id is always on the same side, for `train=80, eval=20` the
        side that it has in the nights
    :param id_columns: what makes a row the same row again; by default the model's, else the whole row
    :raises DataError: the data cannot be read, or `out` is there already
    """
    target = fresh(out)
    opened = open_data(data, model=model, schema=schema, strict=True, max_rejected_share=max_rejected_share)
    sides = Sides.of(split, id_columns, opened)
    if shards < 1:
        raise DataError(f"--shards {shards}: give 1 or more")
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        rows = _write(opened, sides, staging, shards, gzip)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_path(target.parent)
    return rows


def fresh(out: str | Path) -> Path:
    """The folder to write, which nothing is in yet. Raises DataError."""
    target = Path(out).expanduser().absolute()
    if is_remote(str(out)):
        raise DataError(f"{out}: only a Beam runner writes there; give --runner")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target} is there already; remove it, or name another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


class Sides:
    """Which split a row belongs to."""

    def __init__(self, percent: Mapping[str, int], id_columns: Sequence[str]) -> None:
        self.names = list(percent) or [WHOLE]
        self._percent = percent
        self._id_columns = list(id_columns)

    @classmethod
    def of(cls, split: Mapping[str, int] | None, id_columns: Sequence[str], data: DataSet) -> "Sides":
        """Raises DataError where the shares are not 100 %."""
        if split and (sum(split.values()) != 100 or min(split.values()) < 1):
            raise DataError(f"--split {split}: the shares are whole percents above 0 that add up to 100")
        for name in split or {}:
            if not name.isidentifier():
                raise DataError(f"--split {name!r}: a split's name is letters, digits and _")
        return cls(split or {}, id_columns or (data.config.data.id_columns if data.config else ()))

    def of_rows(self, rows: pa.RecordBatch) -> np.ndarray:
        """The number of each row's split: int, [rows]. The last split has the first percents, as in the nights.

        Raises DataError where there is no such column.
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


def encoded(features: pa.RecordBatch) -> list[bytes]:
    """Each row as a serialized tf.Example."""
    arrays = [pa.nulls(len(c), pa.list_(pa.binary())) if pa.types.is_null(c.type) else c for c in features.columns]
    return RecordBatchToExamplesEncoder().encode(pa.RecordBatch.from_arrays(arrays, features.schema.names))


def check_types(features: pa.RecordBatch, data: DataSet) -> None:
    """Refuse a feature of another type than the schema's; only an example brings one here."""
    for name, wanted in data.types.items():
        if name not in features.schema.names or pa.types.is_null(features[name].type):
            continue
        inner = features[name].type
        inner = inner.value_type if kinds.is_list(inner) else inner
        found = "int64" if pa.types.is_integer(inner) else "float" if pa.types.is_floating(inner) else "string"
        if found != wanted and not pa.types.is_null(inner):
            raise DataError(f"{data.name}: {name} is {found} there and {wanted} in the schema; write the data again")


def _write(data: DataSet, sides: Sides, folder: Path, shards: int, gzip: bool) -> dict[str, int]:
    written = [0] * len(sides.names)
    paths = []
    with ExitStack() as stack:
        writers = []
        for name in sides.names:
            (folder / sides.folder(name)).mkdir(exist_ok=True)
            names = [f"{FILE}-{shard:05}-of-{shards:05}{'.gz' * gzip}" for shard in range(shards)]
            paths += [folder / sides.folder(name) / file for file in names]
            options = "GZIP" if gzip else None
            files = [tf.io.TFRecordWriter(str(path), options) for path in paths[-shards:]]
            writers.append([stack.enter_context(file) for file in files])
        for rows in data.rows():
            features = data.features(rows)
            check_types(features, data)
            for example, side in zip(encoded(features), sides.of_rows(rows).tolist(), strict=True):
                writers[side][written[side] % shards].write(example)
                written[side] += 1
    for path in paths:
        sync_path(path)
    return dict(zip(sides.names, written, strict=True))
