"""Convert raw complaints to the network's inputs, in training and, inside the SavedModel, in serving."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import dense

from .features import CATEGORIES, PADDING, RARE, TEXT, TOKENS, VOCABULARY


def preprocessing_fn(inputs):
    """Encode each category as an index [batch, 1], and the issue as the indices of its words [batch, TOKENS]."""
    outputs = {
        name: tft.compute_and_apply_vocabulary(
            dense(inputs[name], ""), frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=name
        )
        for name in CATEGORIES
    }
    outputs[TEXT] = tokens(dense(inputs[TEXT], ""))
    return outputs


def tokens(text: tf.Tensor) -> tf.Tensor:
    """Return int64 [batch, TOKENS]: the words' indices by frequency from 1 on, without punctuation, then PADDING."""
    plain = tf.strings.regex_replace(tf.strings.lower(text[:, 0]), r"[[:punct:]]", " ")
    words = tf.strings.split(plain)[:, :TOKENS].to_sparse()
    numbers = tft.compute_and_apply_vocabulary(words, top_k=VOCABULARY, num_oov_buckets=1, vocab_filename=TEXT)
    padded = tf.SparseTensor(words.indices, numbers.values + 1, [tf.shape(text, tf.int64)[0], TOKENS])
    return tf.ensure_shape(tf.sparse.to_dense(padded, PADDING), [None, TOKENS])
