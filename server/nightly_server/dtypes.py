"""The C++ names of TensorFlow's types, and their ranges in JSON."""

import numpy as np
import tensorflow as tf

INTEGERS = {
    tf.int32: (-(2**31), 2**31 - 1),  # also the range for int8, uint8 and int16, as in TensorFlow Serving
    tf.int16: (-(2**31), 2**31 - 1),
    tf.int8: (-(2**31), 2**31 - 1),
    tf.uint8: (-(2**31), 2**31 - 1),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
FLOATS = {dtype: float(np.finfo(dtype.as_numpy_dtype).max) for dtype in (tf.float32, tf.float64)}  # the largest


def type_name(dtype: tf.DType) -> str:
    """Return float, double or half; for other types the Python name."""
    return {tf.float32: "float", tf.float64: "double", tf.float16: "half"}.get(dtype, dtype.name)
