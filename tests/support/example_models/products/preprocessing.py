"""Convert the text of a complaint to the indices of its words, in training and, inside the SavedModel, in serving."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import dense

TEXTS = ["issue", "company"]
TOKENS = 16  # words read of each
PADDING = 0  # the token after the end of a text; words start at 1
RARE = 3  # words that are rarer share an index with unknown ones


def preprocessing_fn(inputs):
    """Return int64 [batch, TOKENS] for each text."""
    return {name: tokens(dense(inputs[name], ""), name) for name in TEXTS}


def tokens(text: tf.Tensor, name: str) -> tf.Tensor:
    words = tf.strings.split(tf.strings.lower(text[:, 0]))[:, :TOKENS].to_sparse()
    numbers = tft.compute_and_apply_vocabulary(words, frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=name)
    padded = tf.SparseTensor(words.indices, numbers.values + 1, [tf.shape(text, tf.int64)[0], TOKENS])
    return tf.ensure_shape(tf.sparse.to_dense(padded, PADDING), [None, TOKENS])
