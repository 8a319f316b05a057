"""Read TFRecord of tf.Example as batches of columns: text, and lists and bytes as they are."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.examples.tfrecord import CHECKSUM, LENGTH, chunks, masked_crc
from nightly.io.tables import shown
from nightly.schemas.features import FAULTS, image_format
from nightly.snapshots.body import ROW, Body, as_text
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.types import is_list, is_text

RECORDS = 10_000  # decoded in one batch at most
START = 1000  # bytes kept of a damaged record
Reject = Callable[[int, str, bytes], None]  # of a record: its number, the reason, its bytes


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

    def reject(number: int, why: str, data: bytes) -> None:
        if rejects:
            rejects.add("record", "", file=body.name, row=number, value=why, text=repr(data[:START]))

    def intact() -> Iterator[tuple[bytes, int]]:
        for number, (data, valid) in enumerate(_records(body), start=1):
            if valid:
                yield data, number
            else:
                reject(number, "the checksum is wrong", data)

    for chunk in chunks(intact(), RECORDS, lambda record: len(record[0])):
        serialized, numbers = zip(*chunk, strict=True)
        yield from _decode(decoder, list(serialized), list(numbers), reject)


def _decode(decoder: Any, serialized: list[bytes], numbers: list[int], reject: Reject) -> Iterator[pa.RecordBatch]:
    """Yield the examples as batches, without those that cannot be decoded, which halving finds."""
    try:
        batch = decoder.DecodeBatch(serialized)
    except Exception as error:  # pybind11 raises RuntimeError or ValueError
        if len(serialized) == 1:
            reject(numbers[0], str(error), serialized[0])
            return
        half = len(serialized) // 2
        yield from _decode(decoder, serialized[:half], numbers[:half], reject)
        yield from _decode(decoder, serialized[half:], numbers[half:], reject)
    else:
        yield batch.append_column(ROW, pa.array(numbers, pa.int64()))


def read_features(body: Body) -> None:
    """Set the headers to the features of all examples, and the kinds of those that are lists or images.

    Reads the whole body, since an example omits missing features.
    """
    headers: dict[str, None] = {}
    for batch in _examples(body, None):
        headers |= dict.fromkeys(batch.schema.names)
        for name, column in zip(batch.schema.names[:-1], batch.columns, strict=False):
            if (kind := _kind(column)) and not is_list(body.kinds.get(name, "")):
                body.kinds[name] = kind
    body.headers = [name for name in headers if name != ROW]


def _kind(lists: pa.Array) -> str | None:
    """Return the type in a snapshot if there is a list of several values, or an image; None for single values."""
    if pa.types.is_null(lists.type):
        return None
    values = lists.flatten()
    several = (pc.max(pc.list_value_length(lists)).as_py() or 0) > 1
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        image = len(values) and image_format(values[0].as_py())
        element = "binary" if image and image in FAULTS else "string"
    else:
        element = "int64" if pa.types.is_integer(values.type) else "float"
    return f"list<{element}>" if several else "binary" if element == "binary" else None


def read_records(
    body: Body, columns: dict[str, str], rejects: Rejects, kinds: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """Yield the body's examples as batches of columns and ROW: text, or lists and bytes where `kinds` has them.

    An example with several values in a feature that is no list is rejected.

    :param columns: feature -> column name
    :param kinds: column -> its type in the snapshot
    """
    for batch in _examples(body, rejects):
        headers = batch.schema.names[:-1]
        batch = _without_several(batch, [h for h in headers if not is_list(kinds[columns[h]])], columns, body, rejects)
        arrays = [_values(batch.column(header), kinds[columns[header]], body) for header in headers]
        yield pa.RecordBatch.from_arrays([*arrays, batch.column(ROW)], [*(columns[h] for h in headers), ROW])


def _without_several(
    batch: pa.RecordBatch, headers: list[str], columns: dict[str, str], body: Body, rejects: Rejects
) -> pa.RecordBatch:
    """Reject the rows with more than one value in any of these features."""
    single = pa.array(np.ones(batch.num_rows, bool))
    for header in headers:
        lengths = pc.list_value_length(batch.column(header)).fill_null(0)
        several = pc.and_(pc.greater(lengths, 1), single)
        for row in batch.filter(several).to_pylist():
            value = f"{len(row[header])} values in {header}"
            number = row.pop(ROW)
            text = ", ".join(f"{name}: {shown(values)}" for name, values in row.items())
            rejects.add("columns", columns[header], file=body.name, row=number, value=value, text=text)
        single = pc.and_(single, pc.invert(several))
    return batch.filter(single)


def _values(lists: pa.Array, kind: str, body: Body) -> pa.Array:
    if is_list(kind):
        return lists
    return _text(lists, body) if is_text(kind) else _singles(lists)


def _text(lists: pa.Array, body: Body) -> pa.StringArray:
    """Return the values of lists of at most one value as text; null for an empty list or a blank."""
    if pa.types.is_null(lists.type) or not len(lists):
        return pa.nulls(len(lists), pa.string())
    values = _singles(lists)
    return as_text(values, body)


def _singles(lists: pa.Array) -> pa.Array:
    """Return the values of lists of at most one value; null for an empty list."""
    if pa.types.is_null(lists.type):
        return lists
    present = pc.greater(pc.list_value_length(lists).fill_null(0), 0)
    positions = pc.if_else(present, pc.subtract(pc.cumulative_sum(present.cast(pa.int64())), 1), None)
    return lists.filter(present).flatten().take(positions)
