"""Text that identifies a value of any type, for hashes of rows and ids.

Numbers, text and times keep their own text, which snapshot ids and splits have always been made of. Lists and bytes
become a hash of their content, so an image is never copied into a row's text.
"""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_BYTES = 16


def identity(values: pa.Array) -> pa.StringArray:
    """Return a text for each value, equal for equal values only; null stays null."""
    if not (pa.types.is_list(values.type) or pa.types.is_binary(values.type)):
        values = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
        return values.cast(pa.string())
    content = _contents(values) if pa.types.is_list(values.type) else values.to_pylist()
    hashes = [None if data is None else blake2b(data, digest_size=DIGEST_BYTES).hexdigest() for data in content]
    return pa.array(hashes, pa.string())


def _contents(lists: pa.ListArray) -> Iterator[bytes | memoryview | None]:
    """Yield each list's content as bytes, in which no two lists are the same."""
    flat = lists.flatten()
    if pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type):
        content = np.ascontiguousarray(flat.to_numpy(zero_copy_only=False)).view(np.uint8).data
        width = flat.type.bit_width // 8
        ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy()) * width
        slices = (content[start:end] for start, end in pairwise([0, *ends.tolist()]))
    else:  # each value with its length, as ["ab"] and ["a", "b"] differ
        pieces = [len(value).to_bytes(8, "little") + value for value in flat.cast(pa.binary()).to_pylist()]
        ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy())
        slices = (b"".join(pieces[start:end]) for start, end in pairwise([0, *ends.tolist()]))
    present = lists.is_valid().to_pylist()
    return (data if valid else None for data, valid in zip(slices, present, strict=True))
