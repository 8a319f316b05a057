"""How wrong a prediction is, from 0 to 1. One class a kind of label.

    binary    the Brier score, (probability - label)²
    classes   the Brier score of all classes, halved; with two classes it equals binary's
    number    the rank error, |F(prediction) - F(label)|: the share of the training labels between the two

Each is a proper score: the true probabilities, or a number's median, have the lowest expected loss. Each is bounded, so
no single prediction decides, and `margin` has one meaning for all.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nightly.records.label_spec import OTHER, LabelSpec

SUM_TOLERANCE = 0.01  # a row of float16 probabilities sums to 1 within it
SHOWN = 3  # classes named in a warning


class IncomparableError(ValueError):
    """The two versions do not predict the same thing. The message says why, as part of a sentence."""


class Loss(ABC):
    name: str  # for the record and the report
    no_answer: str  # why a prediction without a usable answer is left out
    no_label: str = "label not usable"  # why a prediction whose label cannot be used is left out
    warnings: Sequence[str] = ()

    @abstractmethod
    def answers(self, values: np.ndarray, spec: LabelSpec) -> np.ndarray:
        """Return a version's outputs [n, width(spec)] in the form that both versions share; NaN if not usable."""

    @abstractmethod
    def labels(self, texts: pd.Series) -> pd.Series:
        """Return labels, given as text, as the numbers that `losses` takes; NaN if not usable."""

    @abstractmethod
    def losses(self, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the loss of each prediction [n]; NaN without a label."""


def loss_between(stable: LabelSpec, canary: LabelSpec) -> Loss:
    """Return the loss that judges both versions, with labels as the canary's spec says. Raises IncomparableError."""
    if labels := stable.apart_from(canary):
        raise IncomparableError(
            f"production predicts {labels[0]}, and the canary {labels[1]}, so their answers cannot be compared: "
            "promote or stop it by hand"
        )
    if canary.kind == "classes":
        return ClassesLoss(stable.classes, canary.classes)
    if canary.kind == "number":
        return NumberLoss(canary.quantiles)
    return BinaryLoss(canary.positive)


def width(spec: LabelSpec) -> int:
    """Return how many numbers a prediction has."""
    return len(spec.classes) if spec.kind == "classes" else 1


class BinaryLoss(Loss):
    """The Brier score of a probability [n, 1]."""

    name = "Brier score"
    no_answer = "no probability"

    def __init__(self, positive: Sequence[str]) -> None:
        if not positive:
            raise IncomparableError(
                "the canary is of an older release with a binary label, and the config no longer says which of its "
                "values count as 1: promote or stop it by hand"
            )
        self.positive = list(positive)

    def answers(self, values: np.ndarray, spec: LabelSpec) -> np.ndarray:
        return np.where((values >= 0) & (values <= 1), values, np.nan)

    def labels(self, texts: pd.Series) -> pd.Series:
        """Return 1.0 for the positive values, else 0.0. Numbers are compared as numbers, as in training."""
        hits = texts.isin(self.positive)
        numbers = pd.to_numeric(pd.Series(self.positive), errors="coerce")
        if numbers.notna().all():
            hits |= pd.to_numeric(texts, errors="coerce").isin(numbers)
        return hits.astype(float)

    def losses(self, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return (answers[:, 0] - labels) ** 2


class ClassesLoss(Loss):
    """Half the Brier score of the probabilities [n, cells].

    The cells are the finest division of the labels that both versions have probabilities for. A class that a version
    does not know is in its OTHER; then it is in OTHER for both, so that a version which distinguishes more classes is
    not penalized. In a version without OTHER, such a class has probability 0.
    """

    name = "Brier score / 2"
    no_answer = "no probabilities"
    no_label = "label outside the classes"

    def __init__(self, stable: Sequence[str], canary: Sequence[str]) -> None:
        with_other = [set(classes) for classes in (stable, canary) if OTHER in classes]
        named = [name for name in dict.fromkeys([*canary, *stable]) if name != OTHER]
        apart = [name for name in named if all(name in classes for classes in with_other)]
        together = [name for name in named if name not in apart]
        self.cells = [*apart, OTHER] if with_other else apart
        self._cell_of = {name: number for number, name in enumerate(self.cells)}
        self._cell_of |= dict.fromkeys(together, len(apart))
        self.warnings = [_compared_together(together, named)] if together else []
        self._integers = pd.to_numeric(pd.Series(named, dtype=str), errors="coerce").mod(1).eq(0).all()

    def answers(self, values: np.ndarray, spec: LabelSpec) -> np.ndarray:
        sums = values.sum(axis=1, keepdims=True)
        usable = (values >= 0).all(axis=1, keepdims=True) & (abs(sums - 1) <= SUM_TOLERANCE)
        into_cells = np.zeros((len(spec.classes), len(self.cells)))
        into_cells[np.arange(len(spec.classes)), [self._cell_of[name] for name in spec.classes]] = 1
        return np.where(usable, values, np.nan) / np.where(usable, sums, 1) @ into_cells

    def labels(self, texts: pd.Series) -> pd.Series:
        """Return the number of each label's cell. Integer classes are compared as numbers, so "3.0" is "3"."""
        cells = texts.map(self._cell_of)
        if self._integers:
            numbers = pd.to_numeric(texts, errors="coerce")
            by_number = {float(name): cell for name, cell in self._cell_of.items() if name != OTHER}
            cells = cells.fillna(numbers.map(by_number))
        return cells.fillna(self._cell_of.get(OTHER, np.nan)).astype(float)

    def losses(self, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        known = ~np.isnan(labels)
        cells = np.where(known, labels, 0).astype(int)
        of_label = answers[np.arange(len(answers)), cells]
        return np.where(known, ((answers**2).sum(axis=1) - 2 * of_label + 1) / 2, np.nan)


def _compared_together(together: list[str], named: list[str]) -> str:
    shown = ", ".join(repr(name) for name in together[:SHOWN])
    more = f" and {len(together) - SHOWN:,} more" if len(together) > SHOWN else ""
    return (
        f"{len(together):,} of {len(named):,} classes are compared together, as {OTHER}, because one version does not "
        f"know them: {shown}{more}"
    )


class NumberLoss(Loss):
    """The rank error of a prediction [n, 1]: the share of the canary's training labels between it and the label.

    A label that many rows have gets the middle of their ranks. Between two quantiles, ranks are interpolated.
    """

    name = "rank error"
    no_answer = "no prediction"
    no_label = "label not a number"

    def __init__(self, quantiles: Sequence[float]) -> None:
        self._numbers, first, count = np.unique(quantiles, return_index=True, return_counts=True)
        if len(self._numbers) < 2:
            raise IncomparableError(
                "the canary's label.json has no quantiles of at least two numbers, and without them no error has a "
                "scale: promote or stop it by hand"
            )
        self._ranks = (first + (count - 1) / 2) / (len(quantiles) - 1)

    def answers(self, values: np.ndarray, spec: LabelSpec) -> np.ndarray:
        return np.where(np.isfinite(values), values, np.nan)

    def labels(self, texts: pd.Series) -> pd.Series:
        return pd.to_numeric(texts, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)

    def losses(self, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return abs(self._rank(answers[:, 0]) - self._rank(labels))

    def _rank(self, numbers: np.ndarray) -> np.ndarray:
        return np.interp(numbers, self._numbers, self._ranks)
