"""The labels of a night's snapshot beside those of its controls, for the night's page."""

from collections.abc import Iterable
from typing import ClassVar

from nightly.records.base import Contract
from nightly.records.baseline import Control
from nightly.records.label_config import Label
from nightly.records.label_spec import LabelSummary

CLASSES = 50  # the most frequent ones of each side are recorded; `rows` counts all


class ControlLabels(Contract):
    name: str  # as in [data_gate] controls
    title: str  # the control in words, with its date
    labels: LabelSummary
    classes: int = 0  # how many there are, including those that are not recorded


class Labels(Contract):
    """The data gate writes them, whether it holds the night or not."""

    FILE: ClassVar = "labels.json"  # in the night's folder

    label: Label  # as it was configured
    rows: int  # of the snapshot, with and without a label
    now: LabelSummary
    classes: int = 0  # how many there are, including those that are not recorded
    controls: list[ControlLabels]  # those whose labels are known

    @classmethod
    def of(
        cls, label: Label, rows: int, now: LabelSummary, controls: Iterable[tuple[Control, LabelSummary | None]]
    ) -> "Labels":
        """Return the record, without the rare ones of more than CLASSES classes.

        :param rows: of the snapshot
        :param controls: each with its labels; None if they are not known, or of another label
        """
        known = [(control, labels) for control, labels in controls if labels and labels.rows]
        kept = {value for side in (now, *(labels for _, labels in known)) for value in _most_frequent(side)}
        beside = [
            ControlLabels(name=c.name, title=c.title, labels=_only(labels, kept), classes=len(labels.counts))
            for c, labels in known
        ]
        return cls(label=label, rows=rows, now=_only(now, kept), classes=len(now.counts), controls=beside)


def _most_frequent(labels: LabelSummary) -> list[str]:
    return sorted(labels.counts, key=lambda value: (-labels.counts[value], value))[:CLASSES]


def _only(labels: LabelSummary, kept: set[str]) -> LabelSummary:
    """Return the summary with these classes alone. The shares stay right, as `rows` counts all."""
    return labels.model_copy(update={"counts": {v: rows for v, rows in labels.counts.items() if v in kept}})
