"""The default network: several small networks in one, over numbers, categories, vectors and words.

- A number enters twice: scaled, and as the parts of a piecewise-linear function of its rank, so that the first layer
  can bend wherever the data has rows ("On Embeddings for Numerical Features", Gorishniy and others, 2022).
- The members share their weights but for a scale of each input and output, and each learns from its own error. Their
  mean is the answer ("TabM", Gorishniy and others, 2024; "BatchEnsemble", Wen and others, 2020).
"""

from itertools import accumulate
from typing import Any

import keras
import numpy as np
import tensorflow_transform as tft
from keras import ops

from nightly.records.label_spec import LabelSpec
from nightly.training.inputs import keras_inputs
from nightly.training.tabular.features import Features
from nightly.training.tabular.layers import EachMember, Mean, Members, OwnWeights, Pooled, Ramps
from nightly.training.tabular.preprocessing import vocabulary

WARM_UP = 0.05  # of the steps
SMALLEST_SHARE = 1e-4  # of a class: the first answer is finite for one that is not in the data


def build(
    features: Features, tf_transform_output: tft.TFTransformOutput, hyperparameters: dict[str, Any], label: LabelSpec
) -> keras.Model:
    """Return the compiled network of preprocessing.encode's outputs, and of others that are float [n, width].

    Its output is as docs/how-to/labels.md says for the label's kind: [n, 1] or [n, classes].

    :param hyperparameters: nightly.training.run.Hyperparameters, with the keys of `recommended`
    """

    def sizes(names: tuple[str, ...]) -> list[int]:
        return [tf_transform_output.vocabulary_size_by_name(vocabulary(name)) for name in names]

    vocabularies = {group: sizes(getattr(features, group)) for group in ("categories", "category_lists", "texts")}
    return network(keras_inputs(tf_transform_output), vocabularies, hyperparameters, hyperparameters.steps, label)


def network(
    inputs: dict[str, keras.KerasTensor],
    vocabularies: dict[str, list[int]],
    hyperparameters: dict[str, Any],
    steps: int,
    label: LabelSpec,
) -> keras.Model:
    """Return the compiled network.

    :param vocabularies: the size of each column's vocabulary, by group; the index of unknown values follows the last
    """
    embedding = hyperparameters["embedding"]
    bins = hyperparameters["bins"]
    branches = []
    for name, column in inputs.items():
        if name == "ranks":
            branches.append(keras.layers.Flatten()(Ramps(bins)(column)))
        elif name == "categories":
            branches.append(keras.layers.Flatten()(_embedded(column, vocabularies[name], 1, embedding)))
        elif name in ("category_lists", "texts"):  # index 0 fills up
            values = _embedded(column, vocabularies[name], 2, embedding)
            branches.append(keras.layers.Flatten()(Pooled()(values, ops.cast(column > 0, "float32"))))
        else:  # scaled, missing, vectors, and what the model's own preprocessing_fn adds
            branches.append(ops.cast(keras.layers.Flatten()(column), "float32"))

    hidden = keras.layers.Concatenate()(branches)
    hidden = ops.repeat(hidden[:, None], hyperparameters["members"], axis=1)
    for layer in range(hyperparameters["layers"]):
        hidden = Members(hyperparameters["width"], random_signs=layer == 0)(hidden)
        hidden = keras.layers.Dropout(hyperparameters["dropout"])(keras.layers.Activation("relu")(hidden))

    scale, middle = label_scale(label)
    answers = OwnWeights(start_of(label))(hidden)
    if label.kind == "number":
        answers = answers * scale + middle
    else:
        answers = keras.layers.Activation("sigmoid" if label.kind == "binary" else "softmax")(answers)
    model = keras.Model(inputs, Mean()(answers))
    warm_up = max(1, int(steps * WARM_UP))
    highest = hyperparameters["learning_rate"]
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), alpha=0.0, warmup_target=highest, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=hyperparameters["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale_in", "scale_out"])
    model.compile(optimizer, EachMember(label.kind, scale))
    return model


def start_of(label: LabelSpec) -> np.ndarray:
    """Return the last layer's first bias, with which the network begins at the best constant answer."""
    if label.kind == "number":
        return np.zeros(1, np.float32)
    shares = np.clip(label.constant, SMALLEST_SHARE, 1 - SMALLEST_SHARE)
    return np.log(shares / (1 - shares) if label.kind == "binary" else shares).astype(np.float32)


def label_scale(label: LabelSpec) -> tuple[float, float]:
    """Return the standard deviation and the mean of a number, as it is trained on; 1 and 0 of another label.

    The network predicts in these units, so that neither the learning rate nor weight decay depends on the label's.
    """
    if label.kind != "number":
        return 1.0, 0.0
    quantiles = np.log1p(label.quantiles) if label.transform == "log1p" else np.asarray(label.quantiles)
    inner = np.std(quantiles[1:-1])  # a single largest value would make all others look alike
    return float(inner or np.std(quantiles) or 1.0), float(label.constant[0])


def _embedded(column: keras.KerasTensor, sizes: list[int], more: int, dimensions: int) -> keras.KerasTensor:
    """Return the embeddings [..., dimensions] of indices [n, columns, ...]. All columns share one table, and a look-up.

    :param more: indices that a column has beyond its vocabulary
    """
    rows = [size + more for size in sizes]
    first = np.array(list(accumulate(rows[:-1], initial=0))).reshape([-1] + [1] * (len(column.shape) - 2))
    table = keras.layers.Embedding(
        sum(rows), dimensions, embeddings_initializer=keras.initializers.RandomNormal(0, 0.3)
    )
    return table(column + first)
