"""Differences of two models on the same examples, each with its standard error."""

import numpy as np

from nightly.evaluation.formulas import Formula
from nightly.evaluation.measured import Measured, SliceKey
from nightly.evaluation.scored import Scored, slices
from nightly.evaluation.sums import TERMS, Terms
from nightly.records.evaluation import Difference
from nightly.records.metrics import is_of_class

MIN_EXAMPLES = 2


def paired_differences(
    measured: Measured, sample: Scored, candidate: str, production: str
) -> dict[SliceKey, dict[str, Difference]]:
    """Return slice -> metric -> the candidate's value minus production's.

    Each example moves both values. The spread of what it adds to their difference gives the standard error: the
    infinitesimal jackknife, which for an AUC is DeLong's method. The values come from all examples, the spread from the
    `sample`. A metric that is not defined, or whose spread is not, is left out.
    """
    plan, weights, formulas = measured.plan, sample.all_weights, measured.plan.formulas
    terms = {
        model: {
            name: TERMS[plan.kind][name](sample.labels, sample.scores[model], len(plan.classes))
            for name in measured.vectors
        }
        for model in (candidate, production)
    }
    differences: dict[SliceKey, dict[str, Difference]] = {}
    for key, rows in slices(sample, plan.slices):
        sums = measured.slices[key]
        parts = {model: {name: part.of(rows) for name, part in by_name.items()} for model, by_name in terms.items()}
        for metric, formula in formulas.items():
            if key and is_of_class(metric):
                continue
            (value, influence), (before, influence_before) = (
                _value_and_influence(formula, sums.vectors[model], parts[model], weights[rows])
                for model in (candidate, production)
            )
            difference = difference_of(value - before, influence - influence_before, sums.examples)
            if difference:
                differences.setdefault(key, {})[metric] = difference
    return differences


def difference_of(value: float, influence: np.ndarray, examples: int) -> Difference | None:
    """Return a difference whose error is the spread of `influence`; None if there is none.

    :param influence: what each example of a sample adds to the difference, [rows]
    :param examples: all of them; the sample stands for them
    """
    rows = len(influence)
    if rows < MIN_EXAMPLES or not (np.isfinite(value) and np.isfinite(influence).all()):
        return None
    deviations = influence - influence.mean()
    variance = (deviations**2).mean() * examples * examples / (examples - 1)
    return Difference(
        value=float(value), error=float(np.sqrt(variance)), examples=examples, freedom=_freedom(deviations, examples)
    )


def mean_difference(losses: np.ndarray, weights: np.ndarray, examples: int) -> Difference | None:
    """Return the weighted mean of `losses` [rows] with its standard error.

    None if fewer than two rows weigh more than 0: one has no spread, and would look certain.
    """
    total = weights.sum()
    if np.count_nonzero(weights) < MIN_EXAMPLES:
        return None
    mean = float(losses @ weights / total)
    return difference_of(mean, weights * (losses - mean) / total * (len(losses) / examples), examples)


def _freedom(deviations: np.ndarray, examples: int) -> float:
    """Return the degrees of freedom of the variance, from the kurtosis of the deviations.

    A variance that rests on a few examples, such as the recall of a rare class, is less sure than the number of all
    examples tells. Equal to examples - 1 for a normal distribution, about twice the examples that matter otherwise.
    """
    squares = deviations**2
    second, fourth = squares.mean(), (squares**2).mean()
    if not second:
        return float(examples - 1)
    excess = fourth / second**2 - 1
    return float(max(1.0, min(examples - 1, 2 * examples / excess if excess > 0 else examples - 1)))


def _value_and_influence(
    formula: Formula, vectors: dict[str, np.ndarray], terms: dict[str, Terms], weights: np.ndarray
) -> tuple[float, np.ndarray]:
    vector = vectors[formula.sums]
    return formula.value(vector), terms[formula.sums].influence(formula.gradient(vector), weights)
