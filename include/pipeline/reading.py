"""Examples of a split as Arrow: in this process, or for Beam."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import record_based_tfxio, tf_example_record

from include.pipeline.ahead import ahead

BATCH_ROWS = 16_384


def reader(split_uri: str, raw_record_column: str | None = None) -> tf_example_record.TFExampleRecord:
    """What reads the split's examples on Beam."""
    return tf_example_record.TFExampleRecord(
        str(Path(split_uri) / "*"), telemetry_descriptors=["nightly"], raw_record_column_name=raw_record_column
    )


def record_batches(split_uri: str, raw_record_column: str | None = None) -> Iterator[pa.RecordBatch]:
    """The split's examples as Arrow, a bounded batch at a time; nothing where the split is empty.

    :param raw_record_column: a column to add, of the serialized examples
    """
    for _, batch in record_batches_of({"": split_uri}, raw_record_column):
        yield batch


def record_batches_of(
    split_uris: Mapping[str, str], raw_record_column: str | None = None
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The same of several splits, each batch with its split's name, one split after the other.

    Not by `reader`: its tf.data takes longer to read a record than it takes to decode it, in one thread.
    """
    decoder = example_coder.ExamplesToRecordBatchDecoder()

    def decoded(chunk: tuple[str, list[bytes]]) -> tuple[str, pa.RecordBatch]:
        split, serialized = chunk
        batch = decoder.DecodeBatch(serialized)
        if raw_record_column is not None:
            batch = record_based_tfxio.AppendRawRecordColumn(batch, raw_record_column, serialized)
        return split, batch

    yield from ahead(decoded, ((split, chunk) for split, uri in split_uris.items() for chunk in _chunks(records(uri))))


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
