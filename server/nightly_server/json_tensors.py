"""JSON to tensors, as TensorFlow Serving's REST API reads them.

A whole tensor is converted at once. Only if that fails, its values are converted one by one, to name the wrong value
with TensorFlow Serving's text.
"""

import base64
import binascii
from itertools import chain
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from nightly_server.dtypes import FLOATS, INTEGERS, type_name
from nightly_server.errors import ServingError, invalid
from nightly_server.json_text import json_text, json_type

MAX_DIMENSIONS = 64  # numpy's limit


def tensor(value: Any, dtype: tf.DType) -> np.ndarray:
    """Convert a number, string, {"b64": …} or nested list of them. Raise ServingError at the first unfit value."""
    array = tensor_at_once(value, dtype)
    if array is not None:
        return array
    shape, flat = _shape(value), []
    _walk(value, 0, shape, dtype, flat)
    return _array(flat, dtype).reshape(shape)


def tensor_at_once(value: Any, dtype: tf.DType) -> np.ndarray | None:
    """Convert the whole value; return None if a list is ragged, or values must be converted one by one."""
    shape, flat = _shape(value), [value]
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in flat):
            return None
        flat = list(chain.from_iterable(flat))
    types = set(map(type, flat))
    if dtype in FLOATS:
        array = _floats(flat, dtype) if types <= {int, float} else None
        return None if array is None else array.reshape(shape)
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        if not types <= {int} or (flat and not (low <= min(flat) and max(flat) <= high)):
            return None
    elif dtype == tf.bool:
        if not types <= {bool}:
            return None
    elif dtype == tf.string and types <= {str}:
        flat = [text.encode() for text in flat]
    else:
        return None
    return _array(flat, dtype).reshape(shape)


def _floats(flat: list[int | float], dtype: tf.DType) -> np.ndarray | None:
    """Return the numbers as `dtype`; None if it cannot hold one of them."""
    doubles = np.array(flat, dtype=np.float64)
    if (np.isfinite(doubles) & (np.abs(doubles) > FLOATS[dtype])).any():
        return None
    return doubles.astype(dtype.as_numpy_dtype)


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > MAX_DIMENSIONS:
        raise invalid(f"JSON Value: nested {len(shape)} levels deep. Tensors have at most {MAX_DIMENSIONS} dimensions.")
    return shape


def _array(flat: list, dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array
    if dtype in INTEGERS:
        wide = np.uint64 if dtype == tf.uint64 else np.int64
        return np.array(flat, dtype=wide).astype(dtype.as_numpy_dtype)
    return np.array(flat, dtype=dtype.as_numpy_dtype)


def _walk(value: Any, level: int, shape: list[int], dtype: tf.DType, flat: list) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {json_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for part in value:
        _walk(part, level + 1, shape, dtype, flat)


def scalar(value: Any, dtype: tf.DType) -> Any:
    """Return an element of a tensor, for numpy; a float rounds large integers.

    Raise ServingError if it has another type, or is outside the type's range.
    """
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype == tf.string and isinstance(value, dict):
        return decode(value)
    if dtype in FLOATS and type(value) in (int, float):
        if FLOATS[dtype] < abs(value) < np.inf:
            raise invalid(
                f"Cannot convert JSON value: {json_text(value)} to {type_name(dtype)} without loss of precision."
            )
        return float(value)
    if dtype in INTEGERS and type(value) is int and INTEGERS[dtype][0] <= value <= INTEGERS[dtype][1]:
        return value
    if dtype == tf.bool and type(value) is bool:
        return value
    name = type_name(dtype)
    if dtype not in FLOATS and dtype not in INTEGERS and dtype not in (tf.bool, tf.string):
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {json_text(value)} to type: {name}"
        )
    raise invalid(f"JSON Value: {json_text(value)} Type: {json_type(value)} is not of expected type: {name}")


def is_base64(value: Any) -> bool:
    """Return whether the value is {"b64": …}, the form of binary strings."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode(value: dict) -> bytes:
    """Return the bytes of {"b64": …}; padding is optional. Raise ServingError."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {json_text(value)} not formatted correctly for base64 data")
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None
