"""What a SavedModel answers for each kind of label: the outputs of Predict, and of Classify and Regress if it has them.

Each of these three takes the network's output, float [n, width], and returns the outputs of its signature.
"""

from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from nightly.records.label_spec import OUTPUTS, LabelSpec
from nightly.training.errors import ModelError

NEGATIVE_AND_POSITIVE = ["0", "1"]
SUM_TOLERANCE = 0.01  # of a row's probabilities: float16 has three digits

Outputs = dict[str, tf.Tensor]


class ExportError(ModelError):
    """The model cannot be served; the message names the change that it needs."""


class Answers(Protocol):
    """A kind with a method `classify` or `regress` has the signature of that name."""

    width: int  # of the network's output
    last_layer: str  # one that gives such an output

    def predict(self, output: tf.Tensor) -> Outputs: ...


class Binary:
    """The probability that the label is positive."""

    width, last_layer = 1, "Dense(1, activation='sigmoid')"

    def predict(self, output: tf.Tensor) -> Outputs:
        return {OUTPUTS["binary"]: output}

    def classify(self, output: tf.Tensor) -> Outputs:
        return {"classes": _each_row(NEGATIVE_AND_POSITIVE, output), "scores": tf.concat([1 - output, output], axis=1)}

    def regress(self, output: tf.Tensor) -> Outputs:
        return {"outputs": tf.squeeze(output, axis=1)}


class Classes:
    """The probability of each class, and the name of the likeliest."""

    last_layer = "Dense(len(label.classes), activation='softmax'), where label is a third parameter of build_model"

    def __init__(self, classes: list[str]):
        self.classes, self.width = classes, len(classes)

    def predict(self, output: tf.Tensor) -> Outputs:
        likeliest = tf.gather(tf.constant(self.classes), tf.argmax(output, axis=1))
        return {OUTPUTS["classes"]: output, "class": likeliest[:, tf.newaxis]}

    def classify(self, output: tf.Tensor) -> Outputs:
        return {"classes": _each_row(self.classes, output), "scores": output}


class Number:
    """The number on the label's own scale."""

    width, last_layer = 1, "Dense(1)"

    def __init__(self, transform: str):
        self.transform = transform

    def predict(self, output: tf.Tensor) -> Outputs:
        return {OUTPUTS["number"]: tf.math.expm1(output) if self.transform == "log1p" else output}

    def regress(self, output: tf.Tensor) -> Outputs:
        return {"outputs": tf.squeeze(self.predict(output)[OUTPUTS["number"]], axis=1)}


def answers_of(label: LabelSpec | None) -> Answers:
    """Return what a model of this label answers. Without a label it is binary."""
    if label is None or label.kind == "binary":
        return Binary()
    return Classes(label.classes) if label.kind == "classes" else Number(label.transform)


def check(model: keras.Model, answers: Answers, sample: dict[str, tf.Tensor] | None = None) -> None:
    """Raise ExportError if the network's output is not of the answers' width, or not probabilities where it should be.

    :param sample: transformed rows to try the network on
    """
    if model.output_shape != (None, answers.width):
        raise ExportError(
            f"the model's output is {model.output_shape}, not (None, {answers.width}): end it in {answers.last_layer}, "
            "or export it yourself in a run_fn in model.py"
        )
    if isinstance(answers, Classes) and sample is not None:
        rows = np.asarray(model(sample, training=False), np.float64)
        wrong = (rows < 0).any(axis=1) | (abs(rows.sum(axis=1) - 1) > SUM_TOLERANCE)
        if wrong.any():
            row = rows[wrong.argmax()]
            raise ExportError(
                f"the model's outputs are no probabilities: a row's are from {row.min():.3g} to {row.max():.3g}, "
                f"and their sum is {row.sum():.3g} instead of 1: end the model in {answers.last_layer}"
            )


def _each_row(classes: list[str], output: tf.Tensor) -> tf.Tensor:
    return tf.tile(tf.constant([classes]), [tf.shape(output)[0], 1])
