"""Convert columns of lists, vectors and bytes to a snapshot's types, with a sentence for each value that is not one.

Sources hold them natively (TFRecord, Parquet). CSV has text only, so a list is a JSON array there: [1, 2] or ["a"].
"""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.io.tables import cell, shown
from nightly.schemas.features import image_fault
from nightly.snapshots.parsing import parse_numbers
from nightly.snapshots.types import TYPES

NAMES = {"int64": "whole numbers", "float": "numbers", "string": "texts", "binary": "bytes"}
IMAGES = "PNG or JPEG images"


def parse_lists(column: pa.Array, kind: str, *, image: bool = False) -> tuple[pa.ListArray, pa.StringArray]:
    """Return the lists as TYPES[kind], null where invalid, and an error message for each invalid one.

    An empty list is null, as in tf.Example. A value in place of a list counts as a list of one, but not in text.
    """
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), TYPES[kind]), pa.nulls(len(column), pa.string())
    element = kind.removeprefix("list<").removesuffix(">")
    if pa.types.is_string(column.type):
        column, faults = _parse_json(column, element)
    else:
        column, faults = _as_list(column), np.full(len(column), None, object)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    rows, flat = np.repeat(np.arange(len(column)), lengths), column.flatten()
    values, wrong = _convert(flat, element)
    if element == "binary":
        wrong = np.array(
            [content is None or _fault(content, image) is not None for content in values.to_pylist()], bool
        )
    if wrong.any():
        faulty, first = np.unique(rows[wrong], return_index=True)
        for row, position in zip(faulty, np.flatnonzero(wrong)[first], strict=True):
            faults[row] = (
                f"{shown([flat[int(position)].as_py()])[1:-1]} in a list of {IMAGES if image else NAMES[element]}"
            )
        values = values.filter(pa.array(~np.isin(rows, faulty)))
        lengths = np.where(np.isin(np.arange(len(column)), faulty), 0, lengths)
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(lengths == 0)), pa.array(faults, pa.string())


def wrong_lengths(lists: pa.ListArray, length: int) -> pa.StringArray:
    """Return a sentence for each list that has not exactly `length` values; null for the others and for nulls."""
    lengths = pc.list_value_length(lists).to_pylist()
    return pa.array(
        [None if n in (None, length) else f"{n:,} values instead of {length:,}" for n in lengths], pa.string()
    )


def parse_bytes(column: pa.Array, *, image: bool) -> tuple[pa.BinaryArray, pa.StringArray]:
    """Return the values as bytes, and a sentence for each that is empty or, if `image`, no whole PNG or JPEG."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.binary()), pa.nulls(len(column), pa.string())
    if pa.types.is_string(column.type):  # of CSV
        faults = pc.if_else(column.is_valid(), "text in a column of bytes, which only TFRecord and Parquet hold", None)
        return pa.nulls(len(column), pa.binary()), faults
    values = column.cast(pa.binary())
    faults = [_fault(content, image) for content in values.to_pylist()]
    return values, pa.array(faults, pa.string())


def _fault(content: bytes | None, image: bool) -> str | None:
    if content is None:
        return None
    if not content:
        return "an empty value"
    return image_fault(content) if image else None


def _as_list(column: pa.Array) -> pa.ListArray:
    if pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        return column.cast(pa.list_(column.type.value_type))
    if pa.types.is_list(column.type):
        return column
    offsets = pa.array(np.append(0, np.cumsum(column.is_valid().to_numpy(zero_copy_only=False))), pa.int32())
    return pa.ListArray.from_arrays(offsets, column.drop_null(), mask=column.is_null())


def _parse_json(column: pa.StringArray, element: str) -> tuple[pa.ListArray, np.ndarray]:
    """Return the lists in text (null where a text is no list of elements), and the sentences of these."""
    lists: list[list[Any] | None] = []
    faults = np.full(len(column), None, object)
    for row, text in enumerate(column.to_pylist()):
        parsed = None if text is None else _json_array(text, element)
        if text is not None and parsed is None:
            faults[row] = f"{cell(text)!r} is no JSON array of {NAMES[element]}"
        lists.append(parsed)
    kinds = {"int64": pa.int64(), "float": pa.float64(), "string": pa.string(), "binary": pa.binary()}
    return pa.array(lists, pa.list_(kinds[element])), faults


def _json_array(text: str, element: str) -> list[Any] | None:
    """Return the elements, or None if the text is not a JSON array of such elements."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or element == "binary":
        return None
    if element == "string":
        return values if all(isinstance(value, str) for value in values) else None
    if not all(type(value) in (int, float) for value in values):
        return None
    if element == "float":
        return [float(value) for value in values] if all(abs(value) < 1e308 for value in values) else None
    whole = [int(value) for value in values if math.isfinite(value) and value == int(value)]
    return whole if len(whole) == len(values) and all(-(2**63) <= value < 2**63 for value in whole) else None


def _convert(values: pa.Array, element: str) -> tuple[pa.Array, np.ndarray]:
    """Return the values as `element`, null where they are not, and the mask of those."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    target = TYPES[f"list<{element}>"].value_type
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), target), np.ones(len(values), bool)
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if element == "binary":
        converted = values.cast(target)
    elif element == "string":
        converted = values.cast(target) if text or not _is_binary(values.type) else _decoded(values)
    elif text or _is_binary(values.type):
        texts = values.cast(pa.string()) if text else _decoded(values)
        converted = parse_numbers(texts, TYPES[element])[0].cast(target, safe=False)
    elif element == "int64" and pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**63))
        converted = pc.if_else(whole, values, None).cast(target)
    else:
        converted = values.cast(target, safe=False)
    if pa.types.is_floating(target):
        converted = pc.if_else(pc.is_finite(converted), converted, None)
    return converted, converted.is_null().to_numpy(zero_copy_only=False)


def _is_binary(data_type: pa.DataType) -> bool:
    return pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)


def _decoded(values: pa.Array) -> pa.StringArray:
    """Return bytes as text, null where they are not UTF-8."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_utf8(value) for value in values.to_pylist()], pa.string())


def _utf8(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
