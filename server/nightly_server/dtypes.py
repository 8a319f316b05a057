"""TensorFlow's types as its C++ side names them, and the numbers of each that JSON may carry."""

import numpy as np
import tensorflow as tf

INTEGERS = {
    tf.int32: (-(2**31), 2**31 - 1),  # int8, uint8 and int16 too: their range is not checked
    tf.int16: (-(2**31), 2**31 - 1),
    tf.int8: (-(2**31), 2**31 - 1),
    tf.uint8: (-(2**31), 2**31 - 1),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
FLOATS = {dtype: float(np.finfo(dtype.as_numpy_dtype).max) for dtype in (tf.float32, tf.float64)}  # the largest


def type_name(dtype: tf.DType) -> str:
    """float, double, half; otherwise as in Python."""
    return {tf.float32: "float", tf.float64: "double", tf.float16: "half"}.get(dtype, dtype.name)
