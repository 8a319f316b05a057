"""Baselines (the statistics of accepted snapshots) and controls (the baselines that a night is compared with)."""

from typing import Any, ClassVar

from pydantic import AwareDatetime, field_validator

from nightly.records.base import Contract
from nightly.records.data_gate_config import ControlName
from nightly.records.label_spec import NEGATIVE, POSITIVE, LabelSummary
from nightly.records.snapshot import CountedLabels


class Baseline(CountedLabels):
    """FILE in <baselines>/<model>/<as of>-<snapshot>, beside the statistics (a folder a split)."""

    FILE: ClassVar = "baseline.json"

    model: str
    run_id: str
    as_of: AwareDatetime
    snapshot_id: str
    accepted_at: AwareDatetime
    # The labels' counts and the next three describe the snapshot. Baselines of older versions lack them.
    rows: int | None = None
    label_by_value: dict[str, dict[str, LabelSummary]] = {}  # feature -> value -> the labels of its rows
    positive: list[str] = []  # binary: the values of the label that count as positive in label_by_value
    files: dict[str, str] | None = None  # the statistics' paths in the folder -> sha256

    @field_validator("label_by_value", mode="before")
    @classmethod
    def _counts_of_positives(cls, values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Read the labelled and positive rows of each value, which older versions recorded."""
        return {
            feature: {
                value: LabelSummary.of_counts({POSITIVE: labels[1], NEGATIVE: labels[0] - labels[1]})
                if isinstance(labels, list | tuple)
                else labels
                for value, labels in by_value.items()
            }
            for feature, by_value in values.items()
        }


class Control(Contract):
    """A baseline that a night is compared with, or the reason why there is none of that name."""

    name: ControlName
    factor: float  # multiplies the thresholds
    folder: str = ""  # the baseline's; "" if there is none
    baseline: Baseline | None = None
    missing: str = ""  # why there is no baseline

    @property
    def title(self) -> str:
        """The control's name in messages, with its date."""
        day = f" ({self.baseline.as_of:%Y-%m-%d})" if self.baseline else ""
        return {
            "last_accepted": f"the last accepted snapshot{day}",
            "production": f"the snapshot of the model in production{day}",
            "same_weekday": f"the same weekday weeks before{day}",
            "same_season": f"the same season a year before{day}",
        }[self.name]
