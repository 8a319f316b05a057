"""Whether a model beats the best constant answer: what it would answer without any feature."""

import numpy as np

from nightly.evaluation.differences import mean_difference
from nightly.evaluation.scored import Scored
from nightly.records.evaluation import Difference
from nightly.records.label_spec import LabelSpec


def better_than_constant(sample: Scored, model: str, spec: LabelSpec, examples: int) -> Difference | None:
    """Return the loss of the spec's constant answer minus the model's; None if the model does not name its constant.

    :param examples: all of them; the sample stands for them
    """
    if not spec.constant:
        return None
    constant = np.array(spec.constant)
    losses = _losses(sample.labels, _constant_scores(constant, spec, len(sample)), spec)
    gains = losses - _losses(sample.labels, sample.scores[model], spec)
    return mean_difference(gains, sample.all_weights, examples)


def loss_name(spec: LabelSpec) -> str:
    """Return the name of the loss in a message."""
    if spec.kind != "number":
        return "Brier score"
    return "mean squared error" + (" of log(1 + label)" if spec.transform == "log1p" else "")


def _constant_scores(constant: np.ndarray, spec: LabelSpec, rows: int) -> np.ndarray:
    if spec.kind == "classes":
        return np.broadcast_to(constant, (rows, len(constant)))
    answer = constant[0]
    return np.full(rows, np.expm1(answer) if spec.transform == "log1p" else answer)


def _losses(labels: np.ndarray, scores: np.ndarray, spec: LabelSpec) -> np.ndarray:
    """Return the loss of each example: the Brier score, from 0 to 1, or the squared error of the transformed label."""
    p = scores.astype(np.float64)
    if spec.kind == "classes":
        own = np.take_along_axis(p, labels[:, np.newaxis], axis=1)[:, 0]
        return ((p**2).sum(axis=1) - 2 * own + 1) / 2
    return (_transformed(p, spec) - _transformed(labels.astype(np.float64), spec)) ** 2


def _transformed(values: np.ndarray, spec: LabelSpec) -> np.ndarray:
    return np.log1p(np.maximum(values, -1 + 1e-6)) if spec.transform == "log1p" else values
