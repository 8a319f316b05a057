"""Examples from a snapshot: Parquet -> Arrow -> tf.Example, without Beam (0.3 s against 8.7 s for 100,000 rows)."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.coders import example_coder

log = logging.getLogger("nightly")

BATCH_ROWS = 65_536
SPLITS = ("train", "eval")
FILE_NAME = "data_tfrecord-00000-of-00001"  # not compressed: it is written once and read several times this night


@component
def SnapshotExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    snapshot: Parameter[str],
    columns: Parameter[str],
    id_columns: Parameter[str],
    label: Parameter[str],
    eval_percent: Parameter[int],
) -> None:
    """Write a snapshot's labelled rows as tf.Example, split by a hash of their id.

    A column's value is a list of one; a null is a missing feature. The same id is on the same side every night,
    so that the model in production is never judged by rows that it was trained on. Rows without a label are left
    out: nothing can be trained or judged by them (the data gate tells how many there are, from the manifest).

    :param snapshot: the snapshot's folder
    :param columns: the columns to write, separated by newlines
    :param id_columns: the columns that make a row the same row again, separated by newlines
    :param label: the label's column
    :param eval_percent: the share of ids on the eval side
    """
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    examples.set_string_custom_property("snapshot", Path(snapshot).name)
    writers = {}
    counts = dict.fromkeys(SPLITS, 0)
    for split in SPLITS:
        folder = Path(artifact_utils.get_split_uri([examples], split))
        folder.mkdir(parents=True, exist_ok=True)
        writers[split] = tf.io.TFRecordWriter(str(folder / FILE_NAME))
    encoder = example_coder.RecordBatchToExamplesEncoder()
    unlabelled = 0
    for batch in _batches(Path(snapshot)):
        labelled = batch.filter(batch.column(label).is_valid()) if label in batch.schema.names else batch.slice(0, 0)
        unlabelled += batch.num_rows - labelled.num_rows
        if not labelled.num_rows:
            continue
        in_eval = split_hash(labelled, id_columns.split("\n")) % 100 < eval_percent
        encoded = encoder.encode(_as_features(labelled, columns.split("\n")))
        for serialized, to_eval in zip(encoded, in_eval, strict=True):
            writers["eval" if to_eval else "train"].write(serialized)
        counts["eval"] += int(in_eval.sum())
        counts["train"] += labelled.num_rows - int(in_eval.sum())
    for writer in writers.values():
        writer.close()
    log.info("%d examples to train on, %d to judge by", counts["train"], counts["eval"])
    if unlabelled:
        log.warning("%d rows have no %s and are left out", unlabelled, label)


def split_hash(batch: pa.RecordBatch, id_columns: list[str]) -> np.ndarray:
    """A hash of each row's id (uint64, [rows]), the same on every machine and every night."""
    ids = pa.Table.from_batches([batch]).select(id_columns).to_pandas()
    return pd.util.hash_pandas_object(ids, index=False).to_numpy()


def _batches(snapshot: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted(snapshot.glob("rows-*.parquet")):
        yield from pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS)


def _as_features(batch: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
    """Columns of values -> columns of lists of at most one value, as the encoder wants them."""
    arrays = []
    for name in columns:
        values = batch.column(name)
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("s", values.type.tz), safe=False)  # int64: Unix seconds
        values = values.cast(_feature_type(values.type))
        offsets = np.concatenate([[0], np.cumsum(pc.is_valid(values).to_numpy(zero_copy_only=False))])
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.drop_null())
        present = values.is_valid()
        arrays.append(pc.if_else(present, lists, pa.scalar(None, lists.type)))
    return pa.RecordBatch.from_arrays(arrays, columns)


def _feature_type(kind: pa.DataType) -> pa.DataType:
    """A tf.Example holds int64, float and bytes."""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float32()
    return pa.binary()
