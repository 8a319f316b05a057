"""The TFRecord format: a record's length, the length's checksum, the record, its checksum.

https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from struct import Struct
from typing import TypeVar

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LENGTH, CHECKSUM = Struct("<Q"), Struct("<I")
CHUNK_BYTES = 32 << 20

Record = TypeVar("Record")


def chunks(
    records: Iterable[Record], rows: int, size: Callable[[Record], int] = len, limit: int = CHUNK_BYTES
) -> Iterator[list[Record]]:
    """Yield the records in lists of at most `rows`, and fewer once their sizes in bytes add up to `limit`."""
    chunk, so_far = [], 0
    for record in records:
        chunk.append(record)
        so_far += size(record)
        if len(chunk) == rows or so_far >= limit:
            yield chunk
            chunk, so_far = [], 0
    if chunk:
        yield chunk


def masked_crc(data: bytes) -> int:
    """Return the format's checksum of `data`."""
    return int(_masked(np.uint64(google_crc32c.value(data))))


def framed(records: pa.Array) -> memoryview:
    """Return the bytes of a TFRecord file with these serialized records.

    TensorFlow's writer releases the GIL for each record, and beside other threads it waits to get it back each time.
    """
    records = records.cast(pa.large_binary())
    lengths = pc.binary_length(records).dictionary_encode()
    heads = pa.array(map(_head, lengths.dictionary.to_pylist()), pa.large_binary()).take(lengths.indices)
    sums = np.fromiter(map(google_crc32c.value, _values(records)), np.uint64, len(records))
    feet = _masked(sums).astype("<u4").view("V4")
    feet = pa.Array.from_buffers(pa.binary(4), len(records), [None, pa.py_buffer(feet)]).cast(pa.large_binary())
    joined = pc.binary_join_element_wise(heads, records, feet, pa.scalar(b"", pa.large_binary()))
    ends = _ends(joined)
    return memoryview(joined.buffers()[2] or b"")[ends[0] : ends[-1]]


def _values(records: pa.LargeBinaryArray) -> Iterator[bytes]:
    """Yield the values as to_pylist does, without an Arrow scalar for each."""
    ends, content = _ends(records).tolist(), bytes(records.buffers()[2] or b"")
    return (content[start:end] for start, end in itertools.pairwise(ends))


def _ends(values: pa.LargeBinaryArray) -> np.ndarray:
    """Return the offsets: where each value begins, and where the last value ends."""
    return np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]


def _masked(crc: np.ndarray) -> np.ndarray:
    """Mask checksums as the format requires, since a CRC of data that contains CRCs is problematic."""
    return (((crc >> np.uint64(15)) | (crc << np.uint64(17))) + np.uint64(0xA282EAD8)) & np.uint64(0xFFFFFFFF)


@lru_cache(maxsize=4096)
def _head(length: int) -> bytes:
    packed = LENGTH.pack(length)
    return packed + CHECKSUM.pack(masked_crc(packed))
