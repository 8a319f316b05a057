"""Convert the texts of complaints to the indices of their words, in training and, inside the SavedModel, in serving."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.preprocessing import padded
from nightly.training.transforming import dense

TEXTS = ["issue", "company"]
TOKENS = 16  # words read of each
PADDING = 0  # the token after the end of a text; words start at 1
RARE = 3  # words that are rarer share an index with unknown ones


def preprocessing_fn(inputs):
    """Return int64 [batch, TOKENS] for each text."""
    return {name: tokens(dense(inputs[name], ""), name) for name in TEXTS}


def tokens(text: tf.Tensor, name: str) -> tf.Tensor:
    words = tf.strings.split(tf.strings.lower(text[:, 0])).to_sparse()
    numbers = tft.compute_and_apply_vocabulary(words, frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=name)
    return padded(tf.sparse.map_values(tf.add, numbers, 1), TOKENS, PADDING)
