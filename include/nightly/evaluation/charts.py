"""What the page draws of a model's answers."""

import numpy as np

from nightly.evaluation.scored import Scored
from nightly.records.evaluation import CalibrationBin, Charts, Histogram
from nightly.records.label_config import Kind

TENTHS = 10
MAX_CLASSES = 12  # rows and columns of the confusion matrix; the rest are together
REST = "(rest)"
RESIDUAL_BINS = 40
TAIL = 0.5  # percent of the residuals on each side that share the outermost bins


def charts(sample: Scored, model: str, kind: Kind, classes: list[str]) -> Charts:
    """Return the charts of a model over the sample, unweighted."""
    labels, scores = sample.labels, sample.scores[model]
    if kind == "classes":
        return _confusion(labels, scores.argmax(axis=1), classes)
    residuals = _residuals(scores.astype(np.float64) - labels) if kind == "number" else None
    return Charts(calibration=_calibration(labels, scores), residuals=residuals)


def _calibration(labels: np.ndarray, scores: np.ndarray) -> list[CalibrationBin]:
    order = np.argsort(scores, kind="stable")
    return [
        CalibrationBin(rows=len(rows), predicted=float(scores[rows].mean()), actual=float(labels[rows].mean()))
        for rows in np.array_split(order, TENTHS)
        if len(rows)
    ]


def _confusion(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> Charts:
    counts = np.bincount(labels, minlength=len(classes))
    frequent = np.argsort(-counts, kind="stable")[: MAX_CLASSES if len(classes) <= MAX_CLASSES else MAX_CLASSES - 1]
    size = len(frequent)
    position = np.full(max(len(classes), int(predicted.max()) + 1), size)  # the rest, and classes that no label has
    position[frequent] = np.arange(size)
    pairs = position[labels] * (size + 1) + position[predicted]
    matrix = np.bincount(pairs, minlength=(size + 1) ** 2).reshape(size + 1, size + 1)
    names = [*(classes[index] for index in frequent), REST]
    if not matrix[size].any() and not matrix[:, size].any():
        matrix, names = matrix[:size, :size], names[:size]
    return Charts(classes=names, confusion=matrix.tolist())


def _residuals(residuals: np.ndarray) -> Histogram:
    low, high = np.percentile(residuals, [TAIL, 100 - TAIL])
    if low == high:
        low, high = low - 0.5, high + 0.5
    rows, edges = np.histogram(np.clip(residuals, low, high), RESIDUAL_BINS, (low, high))
    return Histogram(edges=edges.tolist(), rows=rows.tolist())
