"""The label of a night beside its controls, and over the nights before: what the page of a night shows of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nightly.records.label_config import BinaryLabel, ClassesLabel, Kind
from nightly.records.label_spec import POSITIVE, LabelSummary
from nightly.records.labels import ControlLabels, Labels
from nightly.records.night import Reason
from nightly_airflow.web import plots
from nightly_airflow.web.axes import Axis
from nightly_airflow.web.history import LABEL_CHANGE, Point
from nightly_airflow.web.views import NightDetails

CLASSES = 12  # shown with their shares; the others are counted
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # the quantiles of a number that are shown
MEANINGS: dict[Kind, str] = {
    "binary": "of the share of positives",
    "classes": "the largest of any class's share",
    "number": "the largest of the share of labels up to any number",
}
WIDTH = 200  # of a box plot's viewBox


@dataclass
class Side:
    """The labels of the night, or of one control."""

    title: str
    labels: LabelSummary
    cells: list[str]  # one for each of LabelView.columns
    box: Markup | str = ""  # of a number
    change: float | None = None  # since the control, from 0 to 1
    where: str = ""  # the class or the range of numbers whose share changed, in words
    reason: Reason | None = None  # the finding against this control


@dataclass
class ClassShare:
    """A class, and its share of the labelled rows of each side, in the order of LabelView.sides."""

    name: str
    rows: int  # of the night
    shares: list[float]


@dataclass
class LabelView:
    column: str
    kind: str  # in words
    recorded: str  # in how many rows it is
    meaning: str  # of Side.change
    columns: list[str]  # the titles of Side.cells
    sides: list[Side]  # the night, then its controls
    classes: list[ClassShare]  # of a label of several classes: the most frequent first
    left_out: int  # classes that are not shown
    timelines: list[tuple[str, Markup]]  # title and plot

    @property
    def tallest(self) -> float:
        return max((share for shown in self.classes for share in shown.shares), default=1.0)


def label_view(details: NightDetails) -> LabelView | None:
    """Return what is shown of the night's label; None if the night did not record it."""
    record = details.labels
    if record is None:
        return None
    findings = {
        reason.control: reason
        for reason in details.reasons
        if reason.check == LABEL_CHANGE and reason.subject == record.label.column
    }
    now = ControlLabels(name="", title="this night", labels=record.now, classes=record.classes)
    recorded = [now, *record.controls]
    columns, cells = _cells(record)
    boxes = _boxes([side.labels.quantiles for side in recorded])
    sides = [Side(side.title, side.labels, cells(side), box) for side, box in zip(recorded, boxes, strict=True)]
    for control, side in zip(record.controls, sides[1:], strict=True):
        side.change, where = record.now.change(control.labels)
        side.where = _where(record.label.kind, where)
        side.reason = findings.get(control.name)
    classes = _classes(record, sides) if isinstance(record.label, ClassesLabel) else []
    share = f" ({plots.percent(record.now.rows / record.rows)})" if record.rows else ""
    return LabelView(
        column=record.label.column,
        kind=_kind(record),
        recorded=f"{record.now.rows:,} of {record.rows:,} rows{share}",
        meaning=MEANINGS[record.label.kind],
        columns=columns,
        sides=sides,
        classes=classes[:CLASSES],
        left_out=max(record.classes, len(classes)) - CLASSES if len(classes) > CLASSES else 0,
        timelines=[*_level_by_night(details, record), *_change_by_night(details)],
    )


def _kind(record: Labels) -> str:
    label = record.label
    if isinstance(label, BinaryLabel):
        return f"binary: positive is {', '.join(label.positive)}"
    if isinstance(label, ClassesLabel):
        return f"one of {record.classes:,} classes" + (", learned" if label.classes == "learned" else "")
    return "a number" + (", trained on log(1 + number)" if label.transform == "log1p" else "")


def _where(kind: Kind, place: str) -> str:
    """Describe what LabelSummary.change names: a class, or a range such as "up to 8.25"."""
    if not place or kind == "binary":
        return ""
    if kind == "classes":
        return f"of {plots.brief(place)}"
    side, _, number = place.rpartition(" ")
    return f"{side or 'up to'} {plots.number(float(number))}"


def _cells(record: Labels) -> tuple[list[str], Callable[[ControlLabels], list[str]]]:
    """Return the titles of a side's cells, and what computes their texts."""
    if isinstance(record.label, BinaryLabel):
        return ["Positive"], lambda side: [plots.percent(side.labels.share(POSITIVE))]
    if isinstance(record.label, ClassesLabel):
        return ["Classes"], lambda side: [f"{side.classes:,}"]
    titles = ["Median" if level == 0.5 else f"{level:.0%}".replace("%", " %") for level in LEVELS]
    return titles, lambda side: [plots.number(at(side.labels.quantiles, level)) for level in LEVELS]


def at(quantiles: Sequence[float], level: float) -> float | None:
    """Return the quantile of a level from 0 to 1, interpolated; None without any."""
    if not quantiles:
        return None
    place = level * (len(quantiles) - 1)
    low = int(place)
    high = min(low + 1, len(quantiles) - 1)
    return quantiles[low] + (place - low) * (quantiles[high] - quantiles[low])


def _boxes(sides: list[list[float]]) -> list[Markup | str]:
    """Return box plots on one scale: a line from 5 % to 95 %, a box of the middle half, a mark at the median."""
    marks = [[at(quantiles, level) or 0.0 for level in LEVELS] if quantiles else [] for quantiles in sides]
    if not (all_marks := [value for side in marks for value in side]):
        return ["" for _ in sides]
    axis = Axis.over(all_marks, 2, WIDTH - 2)
    return [_box([axis(value) for value in side]) if side else "" for side in marks]


def _box(places: list[float]) -> Markup:
    low, begin, middle, end, high = places
    return Markup(
        '<svg class="box" viewBox="0 0 {} 16" preserveAspectRatio="none" aria-hidden="true">{}{}{}</svg>'
    ).format(
        WIDTH,
        plots.line(low, 8, high, 8, "whisker"),
        Markup('<rect class="bar" x="{:.1f}" y="2" width="{:.1f}" height="12"/>').format(begin, max(end - begin, 1)),
        plots.line(middle, 1, middle, 15, "median"),
    )


def _classes(record: Labels, sides: list[Side]) -> list[ClassShare]:
    names = {name for side in sides for name in side.labels.counts}
    shares = [
        ClassShare(name, record.now.counts.get(name, 0), [side.labels.share(name) for side in sides]) for name in names
    ]
    return sorted(shares, key=lambda shown: (-max(shown.shares), shown.name))


def _level_by_night(details: NightDetails, record: Labels) -> list[tuple[str, Markup]]:
    """Return the share of positives, or the median, over the nights with the same label."""
    same = [
        (name, as_of, labels.now)
        for name, as_of, labels in details.history.labels
        if (labels.label.kind, labels.label.column) == (record.label.kind, record.label.column)
    ]
    show: Callable[[float | None], str]
    values: list[tuple[str, dt.datetime, float | None]]
    if isinstance(record.label, BinaryLabel):
        title, show = "Share of positives", plots.percent
        values = [(name, as_of, labels.share(POSITIVE)) for name, as_of, labels in same]
    else:
        title, show = "Median", plots.number
        values = [(name, as_of, at(labels.quantiles, 0.5)) for name, as_of, labels in same]
    points = [Point(as_of, name, value, None, held=False) for name, as_of, value in values if value is not None]
    return [(f"{title}, by night", plots.timeline(points, title, show))] if len(points) > 1 else []


def _change_by_night(details: NightDetails) -> list[tuple[str, Markup]]:
    """Return the change of the label over the nights, against the control that is nearest to its threshold."""
    series = {
        control: points
        for control, points in details.history.label_changes.items()
        if points[-1].night == details.record.name
    }
    if not series:
        return []
    control = max(series, key=lambda name: series[name][-1].value / (series[name][-1].threshold or 1.0))
    title = f"Change of the label against {control.replace('_', ' ')}"
    return [(f"{title}, by night", plots.timeline(series[control], title, plots.percent))]
