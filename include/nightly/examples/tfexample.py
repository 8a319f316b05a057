"""Serialize columns of values as tf.Example, a whole batch at a time.

The prefix of each part of an example depends only on the part's length, so Arrow joins prefixes and parts of all rows
at once. TFX's RecordBatchToExamplesEncoder builds a message for each row (docs/performance.md, profiles). The format:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BYTES = pa.large_binary()
NOTHING = pa.scalar(b"", BYTES)
LISTS = {pa.binary(): 1, pa.float32(): 2, pa.int64(): 3}  # type -> the number of its list field in Feature


def serialized(batch: pa.RecordBatch) -> pa.LargeBinaryArray:
    """Return each row as a serialized tf.Example. A value is a list of one; a null is a feature without a list.

    :param batch: columns of int64, float32 and binary, or of lists of them
    """
    if not batch.num_rows:
        return pa.array([], BYTES)
    entries = [_entry(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    lengths = sum(pc.binary_length(entry).to_numpy() for entry in entries)
    return pc.binary_join_element_wise(_heads(pa.array(lengths), lambda length: _field(1, length)), *entries, NOTHING)


def _entry(name: str, values: pa.Array) -> pa.LargeBinaryArray:
    """Return each row's entry for the feature in the map of features."""
    key = _field(1, len(name.encode())) + name.encode()
    several = pa.types.is_list(values.type)
    element = values.type.value_type if several else values.type
    list_field = LISTS[element]
    # One string, or packed numbers. A list of strings has such a head before each of them already.
    whole = several and pa.types.is_binary(element)

    def head(length: int) -> bytes:
        content = b"" if whole else _field(1, length)
        feature = _field(list_field, len(content) + length) + content
        value = _field(2, len(feature) + length) + feature
        return _field(1, len(key) + len(value) + length) + key + value

    entry = _with_head(_list_payload(values) if several else _payload(values), head)
    missing = _field(1, len(key) + 2) + key + _field(2, 0)
    return entry.fill_null(missing) if values.null_count else entry


def _payload(values: pa.Array) -> pa.LargeBinaryArray:
    """Return each value's bytes; null stays null."""
    if pa.types.is_binary(values.type):
        return values.cast(BYTES)
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type):
        content = pa.Array.from_buffers(pa.binary(4), len(values), [None, pa.py_buffer(numbers.astype("<f4"))])
        content = content.cast(BYTES)
    else:
        content = _varints(numbers.view(np.uint64))
    return pc.if_else(values.is_valid(), content, pa.scalar(None, BYTES)) if values.null_count else content


def _list_payload(lists: pa.ListArray) -> pa.LargeBinaryArray:
    """Return the bytes of each list's values, one after the other; null stays null.

    The values of all rows lie in one buffer, so a row's bytes are a part of it.
    """
    content = _payload(lists.flatten())
    if pa.types.is_binary(lists.type.value_type):
        content = _with_head(content, lambda length: _field(1, length))
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    ends = np.frombuffer(content.buffers()[1], np.int64)[content.offset :][np.append(0, np.cumsum(lengths))]
    joined = pa.Array.from_buffers(BYTES, len(lists), [None, pa.py_buffer(ends), content.buffers()[2]])
    return pc.if_else(lists.is_valid(), joined, pa.scalar(None, BYTES)) if lists.null_count else joined


def _varints(numbers: np.ndarray) -> pa.LargeBinaryArray:
    """Return varints of numbers (uint64, [rows]): seven bits a byte, lowest first; the high bit announces another."""
    groups = numbers[:, None] >> np.arange(0, 64, 7, dtype=np.uint64)
    used = groups > 0
    used[:, 0] = True
    continued = np.zeros_like(used)
    continued[:, :-1] = used[:, 1:]
    content = ((groups & np.uint64(0x7F)) | (continued.astype(np.uint64) << np.uint64(7))).astype(np.uint8)[used]
    ends = np.append(0, np.cumsum(used.sum(axis=1)))
    return pa.Array.from_buffers(BYTES, len(numbers), [None, pa.py_buffer(ends), pa.py_buffer(content)])


def _with_head(content: pa.LargeBinaryArray, head: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """Return each value with the `head` of its length before it; null stays null."""
    return pc.binary_join_element_wise(_heads(pc.binary_length(content), head), content, NOTHING)


def _heads(lengths: pa.Array, head: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """Return the `head` of each length; null stays null."""
    distinct = lengths.dictionary_encode()
    return pa.array(map(head, distinct.dictionary.to_pylist()), BYTES).take(distinct.indices)


def _field(number: int, length: int) -> bytes:
    """Return the tag of a length-delimited field, followed by the length."""
    content = [number << 3 | 2]
    while length > 0x7F:
        content.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*content, length])
