"""A small network over embeddings of places, times and the company, and over the distance."""

from itertools import accumulate

import keras

from nightly.training.inputs import keras_inputs

from .features import COMPANY, DISTANCES, NUMBERS


def build_model(tf_transform_output, hyperparameters: dict) -> keras.Model:
    """Return a model of preprocessing_fn's outputs; its output [batch, 1] is log(1 + fare), as config.toml says."""
    sizes = {name: highest + 1 for name, highest in NUMBERS.items()}
    sizes[COMPANY] = tf_transform_output.vocabulary_size_by_name(COMPANY) + 1

    # All features share one embedding table, so there is a single lookup.
    first_rows = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    inputs = keras_inputs(tf_transform_output)
    rows = keras.layers.Concatenate()([inputs[name] + first for name, first in first_rows.items()])
    embedded = keras.layers.Embedding(sum(sizes.values()), hyperparameters["embedding"])(rows)

    hidden = keras.layers.Concatenate()([keras.layers.Flatten()(embedded)] + [inputs[name] for name in DISTANCES])
    for units in (hyperparameters["hidden_1"], hyperparameters["hidden_2"]):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)

    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(hyperparameters["learning_rate"]),
        loss="mean_absolute_error",  # of the logarithm, so that a fare of 700 dollars does not outweigh all others
    )
    return model
