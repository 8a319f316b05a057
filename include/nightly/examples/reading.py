"""Read the examples of a split as Arrow batches, in this process or on Beam."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import record_based_tfxio

from nightly.examples.tfrecord import chunks
from nightly.io.prefetch import prefetch
from nightly.state.workers import WorkerState

BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Reader:
    """Reads the examples of a split on Beam's workers, a file at a time, as `record_batches` does."""

    examples: str  # the artifact's URI
    split_uri: str
    raw_record_column: str | None = None
    state: WorkerState = field(default_factory=WorkerState)

    def source(self) -> beam.PTransform:
        """Return the source of all batches, whose files this host has."""
        files = sorted(str(path) for path in Path(self.split_uri).iterdir())
        read = beam.FlatMap(self.read).with_output_types(pa.RecordBatch)
        return beam.Create(files, reshuffle=True) | read

    def read(self, file: str) -> Iterator[pa.RecordBatch]:
        """Yield a file's batches."""
        self.state.fetch(self.examples)
        return _batches(file_records(Path(file)), self.raw_record_column)


def record_batches(split_uri: str, raw_record_column: str | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the split's examples as bounded Arrow batches.

    This does not use TFXIO, whose tf.data takes longer to read a record than one thread takes to decode it.

    :param raw_record_column: add a column of this name with the serialized examples
    """
    return _batches(records(split_uri), raw_record_column)


def _batches(serialized_records: Iterable[bytes], raw_record_column: str | None) -> Iterator[pa.RecordBatch]:
    decoder = example_coder.ExamplesToRecordBatchDecoder()

    def decode(serialized: list[bytes]) -> pa.RecordBatch:
        batch = decoder.DecodeBatch(serialized)
        if raw_record_column is None:
            return batch
        return record_based_tfxio.AppendRawRecordColumn(batch, raw_record_column, serialized)

    yield from prefetch(decode, chunks(serialized_records, BATCH_ROWS))


def columns_file(examples_uri: str, split: str) -> Path:
    """Return the path of a split's examples as Arrow columns, a copy of the tf.Example that TFX's components read."""
    return Path(examples_uri) / "columns" / f"{split}.arrow"


def column_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """Yield the bounded batches of a columns file as the decoder would: a column without values has the type null."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as columns:
        for number in range(columns.num_record_batches):
            batch = columns.get_batch(number)
            if not batch.num_rows:  # that part of the snapshot had no rows of this split
                continue
            arrays = [pa.nulls(len(a)) if a.null_count == len(a) else a for a in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def records(split_uri: str) -> Iterator[bytes]:
    """Yield the serialized examples. Raises TensorFlow's DataLossError for a damaged record."""
    for path in sorted(Path(split_uri).iterdir()):
        yield from file_records(path)


def file_records(path: Path) -> Iterator[bytes]:
    """Yield the serialized examples of one file. Raises as `records` does."""
    compression = tf.io.TFRecordOptions("GZIP" if _is_gzip(path) else "")
    yield from tf.compat.v1.io.tf_record_iterator(str(path), compression)


def _is_gzip(path: Path) -> bool:
    """Return whether the file is compressed. Files of TFX's ExampleGen are, whatever their suffix."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
