"""Sums over weighted examples, from which metrics are computed, and the way back: what one example adds to a metric.

Every example adds its weight times some values to some cells of a vector. A metric is a function of such a vector, so
its gradient, read at an example's cells, is the example's influence on the metric (the infinitesimal jackknife). One
mechanism gives every metric its value, over a stream of any length, and its standard error.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nightly.records.label_config import Kind

# The thresholds of TFMA's curves, by which scores are binned. TFMA fills 10,000 buckets and bins these once more, which
# is repeated here so that an AUC is the same number.
_BUCKETS = 10_000
_EPSILON = 1e-7
_THRESHOLDS = np.array([-_EPSILON, *(np.arange(1, _BUCKETS - 1) / (_BUCKETS - 1)), 1 + _EPSILON])
_LEFT = np.array([-np.inf, *(np.arange(_BUCKETS) / _BUCKETS), np.inf])
BINS = _BUCKETS - 1
_BIN_OF = np.clip(np.searchsorted(_THRESHOLDS + _EPSILON, _LEFT, side="right") - 1, 0, BINS - 1)

THRESHOLD = 0.5  # the probability above which a binary model predicts 1

SMALLEST = float(np.finfo(np.float32).tiny)  # the probability that 0 counts as in a cross-entropy

NUMBER_MOMENTS = (
    *("weight", "label", "prediction", "absolute", "squared", "percentage", "percentage_weight"),
    *("logarithmic", "logarithmic_weight", "label_squared", "prediction_squared", "product"),
)
BINARY_MOMENTS = (*NUMBER_MOMENTS, "cross_entropy")
TOP = (1, 2, 3, 5)
CLASS_MOMENTS = ("weight", "cross_entropy", *(f"top_{k}" for k in TOP))
MOMENTS: dict[Kind, tuple[str, ...]] = {"binary": BINARY_MOMENTS, "classes": CLASS_MOMENTS, "number": NUMBER_MOMENTS}


class Terms(NamedTuple):
    """What each example adds to a vector, before its weight."""

    values: np.ndarray  # float64 [rows, terms]
    cells: np.ndarray | None  # int [rows, terms]: the cell that each value is added to; None: the term's own number
    size: int  # of the vector

    def of(self, rows: slice | np.ndarray) -> "Terms":
        """Return the terms of some of the examples."""
        return self._replace(values=self.values[rows], cells=None if self.cells is None else self.cells[rows])

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Return the vector, float64 [size]."""
        if self.cells is None:
            return weights @ self.values
        added = (self.values * weights[:, np.newaxis]).reshape(-1)
        return np.bincount(self.cells.reshape(-1), added, minlength=self.size)

    def influence(self, gradient: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return how much each example adds to a metric with this gradient [size], float64 [rows]."""
        at_cells = gradient[np.newaxis, :] if self.cells is None else gradient[self.cells]
        return weights * (at_cells * self.values).sum(axis=1)


def _number(labels: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    y, p = labels.astype(np.float64), scores.astype(np.float64)
    error = p - y
    with np.errstate(divide="ignore", invalid="ignore"):
        percentage = 100 * np.abs(error / y)
        logarithmic = (np.log(y + 1) - np.log(p + 1)) ** 2
    has_percentage, has_logarithm = y != 0, np.isfinite(logarithmic)  # TFMA leaves the others out, too
    columns = [np.ones(len(y)), y, p, np.abs(error), error**2, np.where(has_percentage, percentage, 0), has_percentage]
    return [*columns, np.where(has_logarithm, logarithmic, 0), has_logarithm, y * y, p * p, y * p]


def _moments_of_numbers(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    columns = np.stack(_number(labels, scores), axis=1).astype(np.float64)
    return Terms(columns, None, columns.shape[1])


def _moments_of_binary(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    y, p = labels.astype(np.float64), scores.astype(np.float64)
    own = np.where(y == 1, p, 1 - p)  # the probability of the label
    with np.errstate(invalid="ignore"):  # what is no probability gives NaN, as in TFMA
        cross_entropy = -np.log(np.where(own == 0, SMALLEST, own))  # TFMA's would be infinite, or NaN if right
    columns = np.stack([*_number(labels, scores), cross_entropy], axis=1).astype(np.float64)
    return Terms(columns, None, columns.shape[1])


def _moments_of_classes(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    p = scores.astype(np.float64)
    own = np.take_along_axis(p, labels[:, np.newaxis], axis=1)
    # The rank of the label's class; of equal probabilities the first class is the likelier, as in TFMA.
    before = np.arange(p.shape[1]) < labels[:, np.newaxis]
    rank = ((p > own) | ((p == own) & before)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross_entropy = -np.log(np.maximum(own[:, 0] / p.sum(axis=1), SMALLEST))
    columns = np.stack([np.ones(len(labels)), cross_entropy, *(rank < k for k in TOP)], axis=1).astype(np.float64)
    return Terms(columns, None, columns.shape[1])


def _confusion_of_binary(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    """Cells: true positives, true negatives, false positives, false negatives."""
    positive, predicted = labels == 1, scores.astype(np.float64) > THRESHOLD
    cells = np.select([positive & predicted, ~positive & ~predicted, predicted], [0, 1, 2], 3)
    return Terms(np.ones((len(labels), 1)), cells[:, np.newaxis], 4)


def _confusion_of_classes(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    """Cells: for each class the examples that have it, that are predicted to have it, and both: 3 * classes."""
    predicted = scores.argmax(axis=1)
    known = predicted < classes
    right = predicted == labels
    values = np.stack([np.ones(len(labels)), known, right], axis=1).astype(np.float64)
    cells = np.stack([labels, classes + np.where(known, predicted, 0), 2 * classes + labels], axis=1)
    return Terms(values, cells, 3 * classes)


def _curve_of_binary(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    """Cells: the negatives of each bin of the score, then the positives: 2 * BINS."""
    cells = bins(scores) + BINS * (labels == 1)
    return Terms(np.ones((len(labels), 1)), cells[:, np.newaxis], 2 * BINS)


def _curves_of_classes(labels: np.ndarray, scores: np.ndarray, classes: int) -> Terms:
    """Cells: those of a binary curve for each class against the rest: classes * 2 * BINS."""
    numbers = np.arange(classes)
    cells = bins(scores[:, :classes]) + BINS * (2 * numbers + (labels[:, np.newaxis] == numbers))
    return Terms(np.ones(cells.shape), cells, classes * 2 * BINS)


def bins(scores: np.ndarray) -> np.ndarray:
    """Return the bin of each probability, from 0 to BINS - 1."""
    return _BIN_OF[np.clip((scores.astype(np.float64) * _BUCKETS + 1).astype(np.int64), 0, _BUCKETS + 1)]


MOMENT, CONFUSION, CURVE = "moments", "confusion", "curve"
# By kind: a vector's name -> its terms, from labels, scores and the number of classes
TERMS: dict[Kind, dict[str, Callable[[np.ndarray, np.ndarray, int], Terms]]] = {
    "binary": {MOMENT: _moments_of_binary, CONFUSION: _confusion_of_binary, CURVE: _curve_of_binary},
    "classes": {MOMENT: _moments_of_classes, CONFUSION: _confusion_of_classes, CURVE: _curves_of_classes},
    "number": {MOMENT: _moments_of_numbers},
}
