"""Read TFRecord of tf.Example as batches of text columns."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.examples.tfrecord import CHECKSUM, LENGTH, masked_crc
from nightly.snapshots.body import ROW, Body
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.rejects import Rejects

RECORDS = 10_000  # decoded in one batch


def _records(body: Body) -> Iterator[tuple[bytes, bool]]:
    """Yield each record and whether its checksum matches."""
    with body.open() as file:
        try:
            while header := file.read(12):
                if len(header) == 12 and masked_crc(header[:8]) != CHECKSUM.unpack(header[8:])[0]:
                    raise UnreadableBodyError(
                        f"{body.name} is not TFRecord, or is damaged: a record's length has a wrong checksum."
                    )
                data = file.read(LENGTH.unpack(header[:8])[0]) if len(header) == 12 else b""
                footer = file.read(4)
                if len(footer) < 4:
                    body.end("it ends in the middle of a record")
                    return
                yield data, masked_crc(data) == CHECKSUM.unpack(footer)[0]
        except EOFError as error:
            body.end(f"its compressed data end too early ({error})")


def _examples(body: Body, rejects: Rejects | None) -> Iterator[pa.RecordBatch]:
    """Yield batches of list columns, as in tf.Example, with the records' numbers."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder  # takes 0.3 s; only TFRecord needs it

    decoder = ExamplesToRecordBatchDecoder()

    def decode(serialized: list[bytes], numbers: list[int]) -> Iterator[pa.RecordBatch]:
        try:
            batch = decoder.DecodeBatch(serialized)
        except Exception as error:  # pybind11 raises RuntimeError or ValueError
            if len(serialized) == 1:
                if rejects:
                    rejects.add(
                        "record", "", file=body.name, row=numbers[0], value=str(error), text=repr(serialized[0])
                    )
                return
            half = len(serialized) // 2
            yield from decode(serialized[:half], numbers[:half])
            yield from decode(serialized[half:], numbers[half:])
        else:
            yield batch.append_column(ROW, pa.array(numbers, pa.int64()))

    serialized, numbers = [], []
    for number, (data, valid) in enumerate(_records(body), start=1):
        if valid:
            serialized.append(data)
            numbers.append(number)
        elif rejects:
            rejects.add("record", "", file=body.name, row=number, value="the checksum is wrong", text=repr(data))
        if len(serialized) == RECORDS:
            yield from decode(serialized, numbers)
            serialized, numbers = [], []
    if serialized:
        yield from decode(serialized, numbers)


def feature_names(body: Body) -> list[str]:
    """Return the features of all examples. Reads the whole body, since an example omits missing features."""
    names: dict[str, None] = {}
    for batch in _examples(body, None):
        names |= dict.fromkeys(batch.schema.names)
    return [name for name in names if name != ROW]


def read_records(body: Body, columns: dict[str, str], rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Yield the body's examples as batches of text columns and ROW; `columns` maps features to column names.

    An example with several values in a feature is rejected.
    """
    for batch in _examples(body, rejects):
        single = pa.array(np.ones(batch.num_rows, bool))
        for header in batch.schema.names[:-1]:
            lengths = pc.list_value_length(batch.column(header)).fill_null(0)
            several = pc.and_(pc.greater(lengths, 1), single)
            for row in batch.filter(several).to_pylist():
                value = f"{len(row[header])} values in {header}"
                number = row.pop(ROW)
                rejects.add("columns", columns[header], file=body.name, row=number, value=value, text=str(row))
            single = pc.and_(single, pc.invert(several))
        batch = batch.filter(single)
        arrays = [_text(batch.column(header), body) for header in batch.schema.names[:-1]]
        names = [columns[header] for header in batch.schema.names[:-1]]
        yield pa.RecordBatch.from_arrays([*arrays, batch.column(ROW)], [*names, ROW])


def _text(lists: pa.Array, body: Body) -> pa.StringArray:
    """Return the values of lists of at most one value as text; null for an empty list or a blank."""
    if pa.types.is_null(lists.type) or not len(lists):
        return pa.nulls(len(lists), pa.string())
    present = pc.greater(pc.list_value_length(lists).fill_null(0), 0)
    positions = pc.if_else(present, pc.subtract(pc.cumulative_sum(present.cast(pa.int64())), 1), None)
    values = lists.filter(present).flatten()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        try:
            values = values.cast(pa.string())
        except pa.ArrowInvalid:
            body.marked = True
            values = pa.array([value.decode("utf-8", "nightly.mark") for value in values.to_pylist()], pa.string())
    values = values.cast(pa.string()).take(positions)
    return pc.if_else(pc.equal(values, ""), None, values)
