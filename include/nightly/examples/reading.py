"""Examples of a split as Arrow: in this process, or for Beam."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import record_based_tfxio, tf_example_record

from nightly.io.prefetch import ahead

BATCH_ROWS = 16_384


def reader(split_uri: str, raw_record_column: str | None = None) -> tf_example_record.TFExampleRecord:
    """What reads the split's examples on Beam."""
    return tf_example_record.TFExampleRecord(
        str(Path(split_uri) / "*"), telemetry_descriptors=["nightly"], raw_record_column_name=raw_record_column
    )


def record_batches(split_uri: str, raw_record_column: str | None = None) -> Iterator[pa.RecordBatch]:
    """The split's examples as Arrow, a bounded batch at a time; nothing where the split is empty.

    Not by `reader`: its tf.data takes longer to read a record than it takes to decode it, in one thread.

    :param raw_record_column: a column to add, of the serialized examples
    """
    decoder = example_coder.ExamplesToRecordBatchDecoder()

    def decoded(serialized: list[bytes]) -> pa.RecordBatch:
        batch = decoder.DecodeBatch(serialized)
        if raw_record_column is None:
            return batch
        return record_based_tfxio.AppendRawRecordColumn(batch, raw_record_column, serialized)

    yield from ahead(decoded, _chunks(records(split_uri)))


def columns_file(examples_uri: str, split: str) -> Path:
    """Where a split's examples are as Arrow columns, beside the tf.Example that TFX's components read."""
    return Path(examples_uri) / "columns" / f"{split}.arrow"


def column_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """What is in such a file, a bounded batch at a time, as the decoder gives it: null where no row has a value."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as columns:
        for number in range(columns.num_record_batches):
            batch = columns.get_batch(number)
            if not batch.num_rows:  # none of this split's rows were in that part of the snapshot
                continue
            arrays = [pa.nulls(len(a)) if a.null_count == len(a) else a for a in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def records(split_uri: str) -> Iterator[bytes]:
    """Serialized examples. Raises tensorflow's DataLossError for a record that is not what was written."""
    for path in sorted(Path(split_uri).iterdir()):
        compression = tf.io.TFRecordOptions("GZIP" if _is_gzip(path) else "")
        yield from tf.compat.v1.io.tf_record_iterator(str(path), compression)


def _is_gzip(path: Path) -> bool:
    """TFX's own ExampleGen compresses, and its files need not be named after it."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _chunks(serialized: Iterator[bytes]) -> Iterator[list[bytes]]:
    while chunk := list(islice(serialized, BATCH_ROWS)):
        yield chunk
