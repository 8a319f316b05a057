"""The network of "Building Machine Learning Pipelines" (Hapke, Nelson): categories and a convolution over the text."""

import keras
import tensorflow as tf

from nightly.training.inputs import keras_inputs

from .features import CATEGORIES, PADDING, TEXT

WINDOW = 5  # words in the convolution's window


def build_model(tf_transform_output, hyperparameters: dict) -> keras.Model:
    """Return a model of preprocessing_fn's outputs; its output [batch, 1] is the probability of a dispute."""
    size = tf_transform_output.vocabulary_size_by_name
    inputs = keras_inputs(tf_transform_output)

    branches = [
        keras.layers.Flatten()(
            keras.layers.Embedding(size(name) + 1, hyperparameters["category_embedding"])(inputs[name])
        )
        for name in CATEGORIES
    ]
    # A row for each word of the vocabulary (at most 10,000, as in the book), for unknown words and for padding.
    words = keras.layers.Embedding(size(TEXT) + 2, hyperparameters["word_embedding"])(Trim()(inputs[TEXT]))
    text = keras.layers.Conv1D(128, WINDOW, activation="relu")(words)
    text = keras.layers.Dense(10, activation="relu")(keras.layers.GlobalMaxPooling1D()(text))

    hidden = keras.layers.Concatenate()([*branches, text])
    for units in (100, 50, 10):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)

    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(
        optimizer=keras.optimizers.RMSprop(hyperparameters["learning_rate"]),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc")],
    )
    return model


class Trim(keras.layers.Layer):
    """Cut [batch, TOKENS] to [batch, longest text + WINDOW], because most of the convolution's input is padding.

    Every text keeps a whole window of padding, so the maximum over windows does not depend on the batch's length. A
    prediction is therefore independent of the other rows in its batch.
    """

    def call(self, tokens):
        padded = tf.pad(tokens, [[0, 0], [0, WINDOW]], constant_values=PADDING)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(tokens != PADDING, tf.int32), axis=1))
        return padded[:, : longest + WINDOW]

    def compute_output_shape(self, shape):
        return (shape[0], None)
