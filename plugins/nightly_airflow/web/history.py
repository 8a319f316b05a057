"""What the nights before a night measured, for the plots on its page."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from nightly.records.labels import Labels
from nightly.records.night import GateResult

NIGHTS = 60  # in a plot
LABEL_CHANGE = "max_label_change"


@dataclass
class Point:
    """One night's value."""

    as_of: dt.datetime
    night: str
    value: float
    threshold: float | None
    held: bool


@dataclass
class History:
    """Series over the nights up to one, oldest first."""

    drift: dict[str, dict[str, list[Point]]] = field(default_factory=dict)  # feature -> control -> points
    label_changes: dict[str, list[Point]] = field(default_factory=dict)  # control -> points
    labels: list[tuple[str, dt.datetime, Labels]] = field(default_factory=list)  # night, as-of time

    def add_gate(self, as_of: dt.datetime, night: str, gate: GateResult) -> None:
        """Add what a night's data gate measured of drift and of the label."""
        for reason in gate.reasons:
            if not reason.subject or not isinstance(reason.figure, float):
                continue
            threshold = reason.threshold if isinstance(reason.threshold, float) else None
            point = Point(as_of, night, reason.figure, threshold, reason.held)
            control = reason.control or "last_accepted"
            if reason.check == "drift":
                self.drift.setdefault(reason.subject, {}).setdefault(control, []).append(point)
            elif reason.check == LABEL_CHANGE:
                self.label_changes.setdefault(control, []).append(point)

    def add_labels(self, as_of: dt.datetime, night: str, labels: Labels) -> None:
        self.labels.append((night, as_of, labels))
