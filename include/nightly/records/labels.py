"""The labels of a night's snapshot beside those of its controls, for the night's page."""

from nightly.records.base import Contract
from nightly.records.label_config import Label
from nightly.records.label_spec import LabelSummary

FILE = "labels.json"  # in the night's folder
CLASSES = 50  # the most frequent values of a label of many; the others are counted in `rows` alone


class ControlLabels(Contract):
    name: str  # as in [data_gate] controls
    title: str  # the control in words, with its date
    labels: LabelSummary


class Labels(Contract):
    """labels.json; the data gate writes it, whether it holds the night or not."""

    label: Label  # as it was configured
    rows: int  # of the snapshot, with and without a label
    now: LabelSummary
    controls: list[ControlLabels]  # those whose labels are known

    @classmethod
    def of(cls, label: Label, rows: int, now: LabelSummary, controls: list[ControlLabels]) -> "Labels":
        """Return the record, with the most frequent classes of each side alone."""
        kept = {value for side in (now, *(c.labels for c in controls)) for value in _most_frequent(side)}
        shortened = [control.model_copy(update={"labels": _only(control.labels, kept)}) for control in controls]
        return cls(label=label, rows=rows, now=_only(now, kept), controls=shortened)


def _most_frequent(labels: LabelSummary) -> list[str]:
    return sorted(labels.counts, key=lambda value: (-labels.counts[value], value))[:CLASSES]


def _only(labels: LabelSummary, kept: set[str]) -> LabelSummary:
    """Return the summary with these classes alone. The shares stay right, as `rows` counts all."""
    return labels.model_copy(update={"counts": {v: rows for v, rows in labels.counts.items() if v in kept}})
