"""Columns of values -> serialized tf.Example, a whole batch at a time: what an example's parts are preceded by follows
from their lengths, so that Arrow joins them for all rows at once.

TFX's RecordBatchToExamplesEncoder builds a message for each row (docs/performance.md, profiles). The format:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BYTES = pa.large_binary()
NOTHING = pa.scalar(b"", BYTES)
LISTS = {pa.binary(): 1, pa.float32(): 2, pa.int64(): 3}  # Feature's field for a list of such values


def serialized(batch: pa.RecordBatch) -> pa.LargeBinaryArray:
    """Each row as a tf.Example, a value as a list of one; of a null only the feature's name is there.

    :param batch: columns of int64, float32 and binary
    """
    if not batch.num_rows:
        return pa.array([], BYTES)
    entries = [_entry(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    lengths = sum(pc.binary_length(entry).to_numpy() for entry in entries)
    return pc.binary_join_element_wise(_heads(pa.array(lengths), lambda length: _field(1, length)), *entries, NOTHING)


def _entry(name: str, values: pa.Array) -> pa.LargeBinaryArray:
    """The feature's entry in the map of features."""
    key = _field(1, len(name.encode())) + name.encode()
    kind = LISTS[values.type]

    def head(length: int) -> bytes:
        one = _field(1, length)  # the value; of numbers all of them, packed
        feature = _field(kind, len(one) + length) + one
        value = _field(2, len(feature) + length) + feature
        return _field(1, len(key) + len(value) + length) + key + value

    entry = _after_its_head(_payload(values), head)
    missing = _field(1, len(key) + 2) + key + _field(2, 0)
    return entry.fill_null(missing) if values.null_count else entry


def _payload(values: pa.Array) -> pa.LargeBinaryArray:
    if pa.types.is_binary(values.type):
        return values.cast(BYTES)
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type):
        content = pa.Array.from_buffers(pa.binary(4), len(values), [None, pa.py_buffer(numbers.astype("<f4"))])
        content = content.cast(BYTES)
    else:
        content = _varints(numbers.view(np.uint64))
    return pc.if_else(values.is_valid(), content, pa.scalar(None, BYTES)) if values.null_count else content


def _varints(numbers: np.ndarray) -> pa.LargeBinaryArray:
    """Seven bits a byte, the lowest first; the highest bit says that another byte follows. uint64, [rows]."""
    groups = numbers[:, None] >> np.arange(0, 64, 7, dtype=np.uint64)
    there = groups > 0
    there[:, 0] = True
    follows = np.zeros_like(there)
    follows[:, :-1] = there[:, 1:]
    content = ((groups & np.uint64(0x7F)) | (follows.astype(np.uint64) << np.uint64(7))).astype(np.uint8)[there]
    ends = np.append(0, np.cumsum(there.sum(axis=1)))
    return pa.Array.from_buffers(BYTES, len(numbers), [None, pa.py_buffer(ends), pa.py_buffer(content)])


def _after_its_head(content: pa.LargeBinaryArray, head: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """Each value after the `head` of its length; null stays null."""
    return pc.binary_join_element_wise(_heads(pc.binary_length(content), head), content, NOTHING)


def _heads(lengths: pa.Array, head: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """The `head` of each length; null stays null."""
    each = lengths.dictionary_encode()
    return pa.array(map(head, each.dictionary.to_pylist()), BYTES).take(each.indices)


def _field(number: int, length: int) -> bytes:
    """The key of a field that has a length, and the length."""
    content = [number << 3 | 2]
    while length > 0x7F:
        content.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*content, length])
