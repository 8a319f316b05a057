"""Convert nested lists to TensorProto and back, without NumPy. A str is encoded as UTF-8."""

import math
import struct
from typing import Any

from . import protos

_TensorProto = protos.message("TensorProto")
NUMBERS = protos.enum("DataType")
NAMES = {number: name for name, number in NUMBERS.items()}

# data type -> (the field that holds its values, its form in tensor_content)
_KINDS = {
    "DT_FLOAT": ("float_val", "f"),
    "DT_DOUBLE": ("double_val", "d"),
    "DT_INT32": ("int_val", "i"),
    "DT_UINT8": ("int_val", "B"),
    "DT_INT16": ("int_val", "h"),
    "DT_INT8": ("int_val", "b"),
    "DT_UINT16": ("int_val", "H"),
    "DT_STRING": ("string_val", ""),
    "DT_INT64": ("int64_val", "q"),
    "DT_BOOL": ("bool_val", "?"),
    "DT_UINT32": ("uint32_val", "I"),
    "DT_UINT64": ("uint64_val", "Q"),
    "DT_HALF": ("half_val", "e"),
}


def to_tensor(values: Any, dtype: str) -> Any:
    """Convert a value or nested list of one shape to a TensorProto of `dtype`, such as DT_FLOAT.

    Raises ValueError and TypeError.
    """
    field, code = _kind(dtype)
    shape: list[int] = []
    level = values
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else None
    flat: list[Any] = []
    _flatten(values, shape, 0, flat)
    tensor = _TensorProto(dtype=NUMBERS[dtype])
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    if dtype == "DT_STRING":
        tensor.string_val.extend(value.encode() if isinstance(value, str) else value for value in flat)
    elif dtype == "DT_HALF":
        tensor.tensor_content = struct.pack(f"<{len(flat)}{code}", *flat)
    else:
        getattr(tensor, field).extend(flat)
    tensor.tensor_shape.SetInParent()
    return tensor


def from_tensor(tensor: Any) -> Any:
    """Return the tensor's values as nested lists, or a scalar; strings are bytes."""
    dtype = NAMES.get(tensor.dtype, str(tensor.dtype))
    field, code = _kind(dtype)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    size = math.prod(shape)
    if tensor.tensor_content and code:
        flat = list(struct.unpack(f"<{size}{code}", tensor.tensor_content))
    else:
        flat = list(getattr(tensor, field))
        if dtype == "DT_HALF":
            flat = [struct.unpack("<e", struct.pack("<H", bits))[0] for bits in flat]
        flat += flat[-1:] * (size - len(flat))  # repeated values at the end are sent only once
    for length in reversed(shape[1:]):
        flat = [flat[i : i + length] for i in range(0, len(flat), length)] if length else [[] for _ in range(shape[0])]
    return flat if shape else flat[0]


def _kind(dtype: str) -> tuple[str, str]:
    if dtype not in _KINDS:
        raise TypeError(f"a tensor of {dtype} cannot be sent or read by this client")
    return _KINDS[dtype]


def _flatten(values: Any, shape: list[int], level: int, flat: list[Any]) -> None:
    nested = isinstance(values, (list, tuple))
    if nested != (level < len(shape)) or (nested and len(values) != shape[level]):
        raise ValueError(f"the values are not of one shape: {shape} at first, then {values!r}")
    if not nested:
        flat.append(values)
        return
    for value in values:
        _flatten(value, shape, level + 1, flat)
