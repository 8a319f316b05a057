"""A small convolutional network."""

import keras

from nightly.training.inputs import keras_inputs


def build_model(tf_transform_output, hyperparameters: dict, label) -> keras.Model:
    """Return a model of `pixels`; its output [batch, classes] has the probability of each digit."""
    inputs = keras_inputs(tf_transform_output)
    hidden = keras.layers.Conv2D(hyperparameters["filters"], 3, activation="relu")(inputs["pixels"])
    hidden = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(hidden))
    hidden = keras.layers.Dense(hyperparameters["hidden"], activation="relu")(hidden)

    model = keras.Model(inputs, keras.layers.Dense(len(label.classes), activation="softmax")(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
