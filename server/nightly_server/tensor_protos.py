"""Converts TensorProtos to arrays and back, as TensorFlow Serving does."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

# A proto's last value fills its shape, so a small proto can be a huge tensor. The full tensor must fit in a message.
MAX_BYTES = 2**31 - 1

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Return the array. Raise ValueError for an invalid tensor, or one of more than MAX_BYTES."""
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if any(size < 0 for size in sizes):
        raise ValueError(f"a dimension is negative: {sizes}")
    try:
        if math.prod(sizes) * np.dtype(tf.as_dtype(proto.dtype).as_numpy_dtype).itemsize > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes: {sizes}")
        return tf.make_ndarray(proto)
    except (TypeError, KeyError, OverflowError) as error:  # resources and variants have no array type
        raise ValueError(f"{type(error).__name__}: {error}") from None


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Return the proto; as in TensorFlow Serving, values are in the typed field, not in `tensor_content`."""
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()
    getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    return proto
