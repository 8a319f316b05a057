"""Convert raw trips to the network's inputs, in training and, inside the SavedModel, in serving."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import dense

from .features import AMOUNTS, BUCKETS, NUMBERS, PLACES, RARE, WORDS


def preprocessing_fn(inputs):
    """Encode each sparse column [batch, 0 or 1 value] as a dense one [batch, 1] of the same name."""
    outputs = {}
    for name in AMOUNTS:
        amount = tf.cast(dense(inputs[name], 0), tf.float32)
        outputs[name] = tft.scale_to_z_score(tf.math.log1p(tf.maximum(amount, 0)))
    for name in WORDS:
        outputs[name] = tft.compute_and_apply_vocabulary(
            dense(inputs[name], ""), frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=name
        )
    for name, highest in NUMBERS.items():
        outputs[name] = tf.clip_by_value(dense(inputs[name], 0), 0, highest)
    for name in PLACES:
        column = inputs[name]
        buckets = tft.bucketize(column, BUCKETS)
        outputs[name] = dense(tf.SparseTensor(column.indices, buckets.values + 1, column.dense_shape), 0)
    return outputs
