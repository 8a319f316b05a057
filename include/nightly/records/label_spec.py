"""What the outputs of a trained model mean, and the labels that it was trained on."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nightly.records.base import Contract
from nightly.records.label_config import BinaryLabel, ClassesLabel, Kind, NumberLabel

LABEL_SPEC = "assets.extra/label.json"  # inside a SavedModel; TensorFlow Serving ignores the folder
POSITIVE, NEGATIVE = "positive", "negative"
OTHER = "(other)"  # the class of rare and new values, if classes are learned
OUTPUTS: dict[Kind, str] = {"binary": "probability", "classes": "probabilities", "number": "prediction"}


class LabelSpec(Contract):
    """assets.extra/label.json in a SavedModel."""

    kind: Kind
    column: str
    output: str  # the output of serving_default that is judged, see OUTPUTS
    positive: list[str] = []  # binary: the values that count as 1
    classes: list[str] = []  # classes: in the order of the probabilities
    transform: Literal["none", "log1p"] = "none"  # number: already undone in the output
    # The best constant answer for the training split: binary: the share of positives; classes: each class's share, in
    # the order of `classes`; number: the mean of the transformed label.
    constant: list[float] = []
    quantiles: list[float] = []  # number: 0 %, 1 %, … 100 % of the training labels, on the label's own scale
    rows: int = 0  # labelled rows of the training split

    @classmethod
    def of(cls, label: BinaryLabel | ClassesLabel | NumberLabel, classes: Sequence[str] = ()) -> "LabelSpec":
        """Return the spec of a configured label, without what training adds."""
        return cls(
            kind=label.kind,
            column=label.column,
            output=OUTPUTS[label.kind],
            positive=label.positive if isinstance(label, BinaryLabel) else [],
            classes=list(classes),
            transform=label.transform if isinstance(label, NumberLabel) else "none",
        )

    @classmethod
    def of_model(cls, folder: Path, label: BinaryLabel | ClassesLabel | NumberLabel) -> "LabelSpec":
        """Return the spec in a SavedModel's folder.

        A model without one is of an older release, or was exported by a run_fn of its own. It counts as binary.

        :param label: the configured label, which has the positive values of such a model
        """
        try:
            return cls.load(folder / LABEL_SPEC)
        except FileNotFoundError:
            positive = label.positive if isinstance(label, BinaryLabel) else []
            return cls(kind="binary", column=label.column, output=OUTPUTS["binary"], positive=positive)

    def apart_from(self, other: "LabelSpec") -> tuple[str, str] | None:
        """Return what each predicts, as the object of a sentence, if it is not the same label; else None.

        Answers can be compared although the classes, or a number's transform, differ.
        """
        if self.kind != other.kind:
            return f"a label of kind {self.kind!r}", f"one of kind {other.kind!r}"
        if self.column != other.column:
            return f"the column {self.column!r}", f"the column {other.column!r}"
        if self.positive and other.positive and set(self.positive) != set(other.positive):
            return f"whether {self.column!r} is {_either(self.positive)}", f"whether it is {_either(other.positive)}"
        return None


def _either(values: list[str]) -> str:
    return " or ".join(map(repr, sorted(values)))


class LabelSummary(Contract):
    """The labels of some rows. Summaries of the same kind of label can be compared."""

    rows: int  # with a label
    counts: dict[str, int] = {}  # binary: of POSITIVE and NEGATIVE; classes: of each class, or the others as OTHER
    quantiles: list[float] = []  # number: evenly spaced from the smallest to the largest

    @classmethod
    def of_counts(cls, counts: dict[str, int]) -> "LabelSummary":
        return cls(rows=sum(counts.values()), counts=counts)

    @classmethod
    def of(
        cls, label: BinaryLabel | ClassesLabel | NumberLabel, counts: dict[str, int], quantiles: list[float]
    ) -> "LabelSummary":
        """Return the summary of a snapshot's labels.

        :param counts: value -> rows; "" is blank
        """
        known = {value: rows for value, rows in counts.items() if value}
        if isinstance(label, BinaryLabel):
            positive = sum(rows for value, rows in known.items() if value in label.positive)
            return cls.of_counts({POSITIVE: positive, NEGATIVE: sum(known.values()) - positive})
        if isinstance(label, ClassesLabel):
            return cls.of_counts(known)
        return cls(rows=sum(known.values()), quantiles=quantiles)

    def share(self, value: str) -> float:
        """Return the share of the rows with this label; of a number, with a label in a range as `change` names it."""
        if self.quantiles:
            side, _, number = value.rpartition(" ")
            return _SHARES[side](self.quantiles, float(number))
        return self.counts.get(value, 0) / self.rows if self.rows else 0.0

    def change(self, before: "LabelSummary") -> tuple[float, str]:
        """Return the largest change of any share since `before`, from 0 to 1, and what has this share.

        binary and classes: the L-infinity distance, and the class. A class that one side may count as OTHER is left
        out. number: the Kolmogorov-Smirnov distance, and a range such as "up to 8.25" or "below 8.25".
        """
        if self.quantiles or before.quantiles:
            return _largest_gap(self.quantiles, before.quantiles)
        known = self.counts.keys() | before.counts.keys()
        for side in (self.counts, before.counts):
            known = known & side.keys() if OTHER in side else known
        changes = [(abs(self.share(value) - before.share(value)), value) for value in sorted(known - {OTHER})]
        return max(changes, default=(0.0, ""))


def _largest_gap(first: list[float], second: list[float]) -> tuple[float, str]:
    """Return the largest distance between two distribution functions, each given by its quantiles, and the range."""
    if not (first and second):
        return 0.0, ""
    gaps = [
        (abs(share(first, number) - share(second, number)), f"{side} {number:.15g}")
        for number in sorted({*first, *second})
        for side, share in _SHARES.items()  # at a jump of a distribution function, both of its sides count
    ]
    return max(gaps)


def _share_below(quantiles: list[float], number: float) -> float:
    """Return the share of values below `number`, interpolated between the quantiles."""
    return _share_at(quantiles, number, bisect_left(quantiles, number))


def _share_up_to(quantiles: list[float], number: float) -> float:
    """Return the share of values of at most `number`."""
    return _share_at(quantiles, number, bisect_right(quantiles, number))


def _share_at(quantiles: list[float], number: float, index: int) -> float:
    last = len(quantiles) - 1
    if index == 0:
        return 0.0
    if index > last:
        return 1.0
    low, high = quantiles[index - 1], quantiles[index]
    within = (number - low) / (high - low) if high > low and low < number else 0.0
    return (index - 1 + within) / last


_SHARES = {"below": _share_below, "up to": _share_up_to}
