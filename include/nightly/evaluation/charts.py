"""What the page draws of a model's answers."""

import numpy as np

from nightly.evaluation.scored import Scored
from nightly.evaluation.sums import THRESHOLD
from nightly.records.evaluation import CalibrationBin, Charts, Histogram
from nightly.records.label_config import Kind

TENTHS = 10
MAX_CLASSES = 12  # rows and columns of the confusion matrix; the rest are together
REST = "(rest)"
NEGATIVE_AND_POSITIVE = ["negative", "positive"]
RESIDUAL_BINS = 40
TAIL = 0.5  # percent of the residuals on each side that share the outermost bins


def charts(sample: Scored, model: str, kind: Kind, classes: list[str]) -> Charts:
    """Return the charts of a model over the sample; as in the metrics, each example counts by its weight."""
    weighted = sample.weights is not None
    counted = sample.all_weights > 0
    if not counted.any():
        return Charts(weighted=weighted)
    labels, scores, weights = (of[counted] for of in (sample.labels, sample.scores[model], sample.all_weights))
    if kind == "classes":
        names, confusion = _confusion_of_classes(labels, scores.argmax(axis=1), weights, classes)
        return Charts(weighted=weighted, classes=names, confusion=confusion)
    calibration = _calibration(labels, scores.astype(np.float64), weights)
    if kind == "number":
        residuals = _residuals(scores.astype(np.float64) - labels, weights)
        return Charts(weighted=weighted, calibration=calibration, residuals=residuals)
    return Charts(
        weighted=weighted,
        calibration=calibration,
        classes=NEGATIVE_AND_POSITIVE,
        confusion=_matrix(labels == 1, scores.astype(np.float64) > THRESHOLD, weights, 2).tolist(),
        threshold=THRESHOLD,
    )


def _calibration(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> list[CalibrationBin]:
    order = np.argsort(scores, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2  # of each example, along all the weight
    tenths = np.minimum(middles / weights.sum() * TENTHS, TENTHS - 1).astype(int)
    return [
        CalibrationBin(
            rows=len(rows),
            predicted=float(np.average(scores[rows], weights=weights[rows])),
            actual=float(np.average(labels[rows], weights=weights[rows])),
        )
        for rows in np.split(order, np.searchsorted(tenths, np.arange(1, TENTHS)))
        if len(rows)
    ]


def _confusion_of_classes(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: list[str]
) -> tuple[list[str], list[list[float]]]:
    """Return the names of rows and columns, and the matrix."""
    totals = np.bincount(labels, weights, minlength=len(classes))
    frequent = np.argsort(-totals, kind="stable")[: MAX_CLASSES if len(classes) <= MAX_CLASSES else MAX_CLASSES - 1]
    size = len(frequent)
    position = np.full(max(len(classes), int(predicted.max()) + 1), size)  # the rest, and classes that no label has
    position[frequent] = np.arange(size)
    matrix = _matrix(position[labels], position[predicted], weights, size + 1)
    names = [*(classes[index] for index in frequent), REST]
    if not matrix[size].any() and not matrix[:, size].any():
        matrix, names = matrix[:size, :size], names[:size]
    return names, matrix.tolist()


def _matrix(actual: np.ndarray, predicted: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Return the weight by actual and predicted position, float64 [size, size]."""
    return np.bincount(actual * size + predicted, weights, minlength=size**2).reshape(size, size)


def _residuals(residuals: np.ndarray, weights: np.ndarray) -> Histogram:
    low, high = np.percentile(residuals, [TAIL, 100 - TAIL], weights=weights, method="inverted_cdf")
    if low == high:
        low, high = low - 0.5, high + 0.5
    rows, edges = np.histogram(np.clip(residuals, low, high), RESIDUAL_BINS, (low, high), weights=weights)
    return Histogram(edges=edges.tolist(), rows=rows.tolist())
