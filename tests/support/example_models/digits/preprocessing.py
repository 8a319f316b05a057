"""Decode images, in training and, inside the SavedModel, in serving."""

import tensorflow as tf

from nightly.training.transforming import dense

PIXELS = 64  # of an image, 8 by 8


def preprocessing_fn(inputs):
    """Return `pixels`, float32 [batch, PIXELS], 0 to 1. A missing image is black."""
    images = dense(inputs["image"], "")[:, 0]
    return {"pixels": tf.ensure_shape(tf.map_fn(pixels, images, fn_output_signature=tf.float32), [None, PIXELS])}


def pixels(image: tf.Tensor) -> tf.Tensor:
    """Return float32 [PIXELS] of a PNG or JPEG image."""
    gray = tf.cond(
        image == "",
        lambda: tf.zeros([8, 8, 1], tf.uint8),
        lambda: tf.io.decode_image(image, channels=1, expand_animations=False),
    )
    return tf.reshape(tf.cast(gray, tf.float32) / 255, [PIXELS])
