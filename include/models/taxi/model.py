"""A wide and deep network: a weight for each single value, and a network over all values together."""

from itertools import accumulate

import keras

from nightly.training.inputs import keras_inputs

from .features import AMOUNTS, BUCKETS, NUMBERS, PLACES, WORDS


def build_model(tf_transform_output, hyperparameters: dict) -> keras.Model:
    """Return a model of preprocessing_fn's outputs; its output [batch, 1] is the probability of a tip above 20 %."""
    sizes = {name: tf_transform_output.vocabulary_size_by_name(name) + 1 for name in WORDS}
    sizes |= {name: highest + 1 for name, highest in NUMBERS.items()} | dict.fromkeys(PLACES, BUCKETS + 1)

    # All features share one embedding table, so there is a single lookup.
    first_rows = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    inputs = keras_inputs(tf_transform_output)
    rows = keras.layers.Concatenate()([inputs[name] + first for name, first in first_rows.items()])
    table = sum(sizes.values())

    wide = keras.layers.Embedding(table, 1)(rows)
    deep = keras.layers.Flatten()(keras.layers.Embedding(table, hyperparameters["embedding"])(rows))
    deep = keras.layers.Concatenate()([deep] + [inputs[name] for name in AMOUNTS])
    for units in (hyperparameters["hidden_1"], hyperparameters["hidden_2"]):
        deep = keras.layers.Dense(units, activation="relu")(deep)
    logit = keras.layers.Dense(1)(keras.layers.Concatenate()([keras.layers.Flatten()(wide), deep]))

    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(logit))
    model.compile(
        optimizer=keras.optimizers.Adam(hyperparameters["learning_rate"]),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc")],
    )
    return model
