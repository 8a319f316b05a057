"""A network over the mean of the words' embeddings."""

import keras

from nightly.training.inputs import keras_inputs

from .preprocessing import TEXTS


def build_model(tf_transform_output, hyperparameters: dict, label) -> keras.Model:
    """Return a model of the tokens; its output [batch, classes] has the probability of each product."""
    inputs = keras_inputs(tf_transform_output)
    means = []
    for name in TEXTS:
        rows = tf_transform_output.vocabulary_size_by_name(name) + 2  # one for unknown words, one for padding
        words = keras.layers.Embedding(rows, hyperparameters["embedding"], mask_zero=True)(inputs[name])
        means.append(keras.layers.GlobalAveragePooling1D()(words))
    hidden = keras.layers.Dense(hyperparameters["hidden"], activation="relu")(keras.layers.Concatenate()(means))

    model = keras.Model(inputs, keras.layers.Dense(len(label.classes), activation="softmax")(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
