"""Functions for a model's preprocessing_fn, for features of several values and for images.

`nightly.training.transforming.dense` is the one for single values.
"""

from typing import Any

import tensorflow as tf


def padded(column: tf.SparseTensor, length: int, default: Any) -> tf.Tensor:
    """Return a dense [batch, length]: a list's first values, filled up with `default`."""
    first = tf.sparse.retain(column, column.indices[:, 1] < length)
    rows = tf.SparseTensor(first.indices, first.values, [column.dense_shape[0], length])
    return tf.ensure_shape(tf.sparse.to_dense(rows, default), [None, length])


def images(column: tf.SparseTensor, height: int, width: int, channels: int = 3) -> tf.Tensor:
    """Decode a column of PNG or JPEG as float32 [batch, height, width, channels], from 0 to 1; black where missing.

    An image of another size is resized. Serving fails for bytes that are no image, with TensorFlow's message.
    """
    size = [height, width]

    def decode(content: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(content, channels, expand_animations=False)
        image = tf.ensure_shape(tf.image.convert_image_dtype(image, tf.float32), [None, None, channels])
        return tf.image.resize(image, size)

    spec = tf.TensorSpec([*size, channels], tf.float32)
    decoded = tf.map_fn(decode, column.values, fn_output_signature=spec)
    shape = tf.stack([column.dense_shape[0], height, width, channels])
    return tf.ensure_shape(tf.scatter_nd(column.indices[:, :1], decoded, shape), [None, *size, channels])
