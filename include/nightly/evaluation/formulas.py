"""Each metric as a function of sums over examples, with its gradient. docs/metrics.md has the definitions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from nightly.compat.tfma import MAX_RECALL_NAME, ConfusionMatrixMetric, registered_metrics
from nightly.evaluation.sums import BINS, CONFUSION, CURVE, MOMENT, MOMENTS, TOP
from nightly.records.label_config import Kind

TINY = 1e-30  # a step along the imaginary axis: the derivative has no rounding error (Squire and Trapp, 1998)
STEP = 1e-7  # a real step for TFMA's functions, which compare: a share of all examples
Vector = np.ndarray


@dataclass(frozen=True)
class Formula:
    """A metric: a function of one vector of sums."""

    sums: str  # the vector's name in sums.TERMS
    value: Callable[[Vector], float]  # NaN where the metric is not defined
    gradient: Callable[[Vector], Vector]


def formulas(kind: Kind, names: list[str], classes: list[str]) -> dict[str, Formula]:
    """Return the formulas of those metrics that have one. TFMA knows more.

    :param names: of metrics; METRIC:CLASS is one class's
    """
    positions = {name: index for index, name in enumerate(classes)}
    by_name = {}
    for name in names:
        metric, _, label = name.partition(":")
        if not label:
            formula = _formula(kind, name, len(classes))
        else:
            formula = _of_class(metric, len(classes), positions[label]) if metric in OF_CLASS else None
        if formula:
            by_name[name] = formula
    return by_name


def _formula(kind: Kind, name: str, classes: int) -> Formula | None:
    if name in MEANS[kind]:
        return _of_moments(kind, MEANS[kind][name])
    if kind == "binary":
        return _curves().get(name) or _of_confusion(name)
    if kind == "classes" and name.startswith("macro_"):
        metric = name.removeprefix("macro_")
        if metric == "auc":
            return Formula(CURVE, partial(_macro_auc, classes), partial(_macro_auc_gradient, classes))
        if metric in OF_CLASS:
            macro = partial(_macro, OF_CLASS[metric], classes)
            return Formula(CONFUSION, macro, partial(_macro_gradient, OF_CLASS[metric], classes))
    return None


# Moments: ratios of sums. Their functions take complex numbers, for exact gradients.


def _ratio(numerator: complex, denominator: complex) -> complex:
    return numerator / denominator if denominator else float("nan")


def _variance(squares: complex, total: complex, weight: complex) -> complex:
    """Return the sum of squared deviations; 0 where only rounding is left of it."""
    spread = squares - _ratio(total * total, weight)
    return spread if abs(spread) > 1e-13 * abs(squares) else 0.0


def _mean(name: str, of: str = "weight") -> Callable[[dict[str, complex]], complex]:
    return lambda m: _ratio(m[name], m[of])


def _r_squared(m: dict[str, complex]) -> complex:
    return 1 - _ratio(m["squared"], _variance(m["label_squared"], m["label"], m["weight"]))


def _squared_correlation(m: dict[str, complex]) -> complex:
    covariance = m["product"] - _ratio(m["label"] * m["prediction"], m["weight"])
    labels = _variance(m["label_squared"], m["label"], m["weight"])
    return _ratio(covariance**2, labels * _variance(m["prediction_squared"], m["prediction"], m["weight"]))


def _discrimination(m: dict[str, complex]) -> tuple[complex, complex]:
    """Return the mean prediction of positives and of negatives."""
    return _ratio(m["product"], m["label"]), _ratio(m["prediction"] - m["product"], m["weight"] - m["label"])


_OF_NUMBERS = {
    "mean_label": _mean("label"),
    "mean_prediction": _mean("prediction"),
    "calibration": _mean("prediction", "label"),
    "mean_absolute_error": _mean("absolute"),
    "mean_squared_error": _mean("squared"),
    "mean_absolute_percentage_error": _mean("percentage", "percentage_weight"),
    "mean_squared_logarithmic_error": _mean("logarithmic", "logarithmic_weight"),
    "squared_pearson_correlation": _squared_correlation,
    "weighted_example_count": lambda m: m["weight"],
}
MEANS: dict[Kind, dict[str, Callable[[dict[str, complex]], complex]]] = {
    "binary": {
        **_OF_NUMBERS,
        "binary_crossentropy": _mean("cross_entropy"),
        "coefficient_of_discrimination": lambda m: _discrimination(m)[0] - _discrimination(m)[1],
        "relative_coefficient_of_discrimination": lambda m: _ratio(*_discrimination(m)),
    },
    "classes": {
        "accuracy": _mean("top_1"),
        **{f"top_{k}_accuracy": _mean(f"top_{k}") for k in TOP[1:]},
        "categorical_crossentropy": _mean("cross_entropy"),
        "weighted_example_count": _OF_NUMBERS["weighted_example_count"],
    },
    "number": {
        **_OF_NUMBERS,
        "root_mean_squared_error": lambda m: np.sqrt(_ratio(m["squared"], m["weight"])),
        "r_squared": _r_squared,
        "mean_bias": lambda m: _ratio(m["prediction"] - m["label"], m["weight"]),
    },
}


def _of_moments(kind: Kind, function: Callable[[dict[str, complex]], complex]) -> Formula:
    names = MOMENTS[kind]

    def gradient(vector: Vector) -> Vector:
        steps = vector + 1j * TINY * np.eye(len(names))
        return np.array([complex(function(dict(zip(names, row, strict=True)))).imag for row in steps]) / TINY

    return Formula(MOMENT, lambda vector: float(np.real(function(dict(zip(names, vector, strict=True))))), gradient)


# The confusion matrix of a binary model: TFMA's own functions of four counts.


@cache
def _of_confusion(name: str) -> Formula | None:
    """Return TFMA's metric of this name, if it is a function of the confusion matrix at 0.5."""
    for kind in registered_metrics().values():
        if not issubclass(kind, ConfusionMatrixMetric):
            continue
        metric = kind()
        if metric.get_config()["name"] == name and name != MAX_RECALL_NAME:
            return Formula(CONFUSION, partial(_counted, metric.result), partial(_counted_gradient, metric.result))
    return None


def _counted(function: Callable[..., float], vector: Vector) -> float:
    try:
        return float(function(*vector.tolist()))
    except ZeroDivisionError:
        return float("nan")


def _counted_gradient(function: Callable[..., float], vector: Vector) -> Vector:
    step = STEP * vector.sum()
    here = _counted(function, vector)
    return np.array([(_counted(function, moved) - here) / step for moved in vector + step * np.eye(4)])


# The curves of a binary model.


def _curves() -> dict[str, Formula]:
    return {
        "auc": Formula(CURVE, partial(_macro_auc, 1), partial(_macro_auc_gradient, 1)),
        "auc_precision_recall": Formula(CURVE, lambda vector: _precision_recall(vector)[0], _precision_recall_gradient),
    }


def _auc(vector: Vector, classes: int) -> tuple[Vector, Vector]:
    """Return the areas under the ROC curves of one or more classes, [classes], and their gradients [classes, 2, BINS].

    The gradient of an area is DeLong's placement value: the share of the other class that an example is above.
    """
    cells = vector.reshape(classes, 2, BINS)
    negative, positive = cells[:, 0], cells[:, 1]
    negatives, positives = (side.sum(axis=1, keepdims=True) for side in (negative, positive))
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (positives - np.cumsum(positive, axis=1) + positive / 2) / positives  # share of positives above a bin
        below = (np.cumsum(negative, axis=1) - negative / 2) / negatives  # share of negatives below it
        areas = (negative * above).sum(axis=1, keepdims=True) / negatives
        gradients = np.stack([(above - areas) / negatives, (below - areas) / positives], axis=1)
    return areas[:, 0], gradients


def _macro_auc(classes: int, vector: Vector) -> float:
    """Return the mean area of the classes that have one."""
    areas, _ = _auc(vector, classes)
    known = np.isfinite(areas)
    return float(areas[known].mean()) if known.any() else float("nan")


def _macro_auc_gradient(classes: int, vector: Vector) -> Vector:
    areas, gradients = _auc(vector, classes)
    known = np.isfinite(areas)
    gradients[~known] = 0.0
    return gradients.reshape(-1) / max(known.sum(), 1)


def _increments(a: Vector, b: Vector, above: Vector, all_above: Vector) -> Vector:
    """Return what each bin adds to the area under the precision-recall curve, times all positives.

    Between two thresholds true positives grow linearly with all predicted (Davis and Goadrich, 2006).

    :param a: positives of the bin; `b` its negatives
    :param above: positives of the bins above; `all_above` all their examples
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = a / (a + b)
        grown = np.where(all_above != 0, np.log((all_above + a + b) / all_above), 0)
        return np.where(a + b != 0, slope * (a + (above - slope * all_above) * grown), 0)


def _precision_recall(vector: Vector) -> tuple[float, list[Vector]]:
    negative, positive = vector.reshape(2, BINS)
    above, negative_above = _sums_above(positive), _sums_above(negative)
    parts = [positive, negative, above, above + negative_above]
    positives = positive.sum()
    return (float(_increments(*parts).sum() / positives) if positives else float("nan")), parts


def _sums_above(values: Vector) -> Vector:
    """Return the sum of all values behind each, exactly 0 behind the last."""
    return np.append(np.cumsum(values[::-1])[::-1][1:], 0.0)


def _precision_recall_gradient(vector: Vector) -> Vector:
    area, parts = _precision_recall(vector)
    derivatives = []
    for index in range(4):
        moved = [part + 1j * TINY if number == index else part for number, part in enumerate(parts)]
        derivatives.append(np.nan_to_num(_increments(*moved).imag / TINY))
    by_positive, by_negative, by_above, by_all_above = derivatives
    # An example of one bin is above all lower ones.
    lower_above, lower_all = (np.cumsum(part) - part for part in (by_above, by_all_above))
    positives = vector.reshape(2, BINS)[1].sum()
    return np.concatenate([by_negative + lower_all, by_positive + lower_above + lower_all - area]) / positives


# Classes: each is counted against all others. A model predicts the likeliest class.


def _precision(actual: Vector, predicted: Vector, right: Vector) -> Vector:
    return right / predicted


def _recall(actual: Vector, predicted: Vector, right: Vector) -> Vector:
    return right / actual


def _f1_score(actual: Vector, predicted: Vector, right: Vector) -> Vector:
    return 2 * right / (actual + predicted)


OF_CLASS = {"precision": _precision, "recall": _recall, "f1_score": _f1_score}


def _by_class(function: Callable[..., Vector], classes: int, vector: Vector) -> tuple[Vector, Vector]:
    """Return a metric of each class, [classes], NaN where it is not defined, and its gradient [3, classes]."""
    cells = vector.reshape(3, classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = 1j * TINY * np.eye(3)[:, :, np.newaxis]
        return function(*cells), np.stack([function(*(cells + step)).imag / TINY for step in steps])


def _macro(function: Callable[..., Vector], classes: int, vector: Vector) -> float:
    """Return the mean over the classes that have examples. A precision is 0 for one that is never predicted."""
    values, _ = _by_class(function, classes, vector)
    present = vector[:classes] > 0
    return float(np.nan_to_num(values[present]).mean()) if present.any() else float("nan")


def _macro_gradient(function: Callable[..., Vector], classes: int, vector: Vector) -> Vector:
    _, gradient = _by_class(function, classes, vector)
    present = vector[:classes] > 0
    return (np.nan_to_num(gradient) * present).reshape(-1) / max(present.sum(), 1)


def _of_class(metric: str, classes: int, index: int) -> Formula:
    only, at = partial(_by_class, OF_CLASS[metric], 1), slice(index, None, classes)

    def gradient(vector: Vector) -> Vector:
        cells = np.zeros(3 * classes)
        cells[at] = only(vector[at])[1][:, 0]
        return cells

    return Formula(CONFUSION, lambda vector: float(only(vector[at])[0][0]), gradient)
