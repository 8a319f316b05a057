"""Charts of a model beside the one in production: calibration, confusion matrices, residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nightly.records.distributions import Histogram as Bars
from nightly.records.evaluation import CalibrationBin, Charts, Evaluation, Histogram
from nightly_airflow.web import plots
from nightly_airflow.web.axes import Axis

WIDTH, HEIGHT = 320, 250  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 34
SHADES = 10  # classes of colour in a confusion matrix, as the content security policy forbids inline styles


@dataclass
class Cell:
    """Examples of one actual class that were predicted as one class."""

    count: int
    share: float  # of the examples of the actual class
    correct: bool
    title: str

    @property
    def shade(self) -> int:
        """The share as a whole number, 0 (none) to SHADES (all)."""
        return math.ceil(self.share * SHADES - 1e-9)


@dataclass
class ActualClass:
    """A row of a confusion matrix."""

    name: str
    examples: int
    cells: list[Cell]


@dataclass
class Confusion:
    """The confusion matrix of one model."""

    title: str
    classes: list[str]
    rows: list[ActualClass]

    @property
    def summary(self) -> str:
        """Return the matrix in one sentence: how many are right, and the most frequent mistake."""
        cells = [(row, name, cell) for row in self.rows for name, cell in zip(self.classes, row.cells, strict=True)]
        examples = sum(cell.count for _, _, cell in cells)
        right = sum(cell.count for _, _, cell in cells if cell.correct)
        text = f"{right:,} of {examples:,} examples are right"
        row, name, worst = max(
            ((row, name, cell) for row, name, cell in cells if not cell.correct), key=lambda found: found[2].count
        )
        return text + (f"; most often {row.name} is taken for {name}, {worst.count:,} times" if worst.count else "")


@dataclass
class ModelCharts:
    """What the page draws of the model and of production; empty where the label's kind has no such chart."""

    calibration: Markup
    with_production: bool  # whether the plots show production, too
    confusions: list[Confusion]  # the new model's, then production's
    residuals: list[tuple[str, Markup]]  # caption and plot


def charts_of(evaluation: Evaluation | None) -> ModelCharts | None:
    """Return the charts of an evaluation; None if it has none."""
    if evaluation is None or not (new := evaluation.charts.get("candidate")):
        return None
    old = evaluation.charts.get("production") or Charts()
    confusions = [confusion(new, "New model"), confusion(old, f"Production, version {evaluation.production_version}")]
    charts = ModelCharts(
        calibration=calibration(new.calibration, old.calibration),
        with_production=bool(old.calibration or old.residuals),
        confusions=[matrix for matrix in confusions if matrix],
        residuals=residuals(new.residuals, old.residuals),
    )
    return charts if charts.calibration or charts.confusions or charts.residuals else None


def calibration(new: Sequence[CalibrationBin], old: Sequence[CalibrationBin]) -> Markup:
    """Return a plot of actual means by predicted means, for each tenth of the examples; "" without any.

    The diagonal is perfect calibration. Filled dots are the new model, hollow ones production.
    """
    new, old = _drawable(new), _drawable(old)
    if not new:
        return Markup("")
    values = [value for point in (*new, *old) for value in (point.predicted, point.actual)]
    across = Axis.over(values, LEFT, WIDTH - RIGHT)
    down = Axis(across.low, across.high, HEIGHT - BOTTOM, TOP, across.logarithmic)
    parts = _grid(across, down)
    parts.append(plots.line(across.begin, down.begin, across.end, down.end, "zero"))
    for points, line, dot in ((old, "control", "dot before"), (new, "series", "dot")):
        path = " ".join(f"{across(point.predicted):.1f},{down(point.actual):.1f}" for point in points)
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(line, path))
        parts += [
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>').format(
                dot, across(point.predicted), down(point.actual), _tenth(point)
            )
            for point in points
        ]
    furthest = max(new, key=lambda point: abs(point.actual - point.predicted))
    label = f"Calibration by tenths of the examples; the new model is furthest off where it has {_tenth(furthest)}"
    return plots.svg(parts, label, HEIGHT)


def confusion(charts: Charts, title: str) -> Confusion | None:
    """Return the confusion matrix of a model; None if it has none."""
    if not charts.confusion:
        return None
    rows = []
    for position, (name, counts) in enumerate(zip(charts.classes, charts.confusion, strict=False)):
        examples = sum(counts)
        cells = [
            Cell(
                count=count,
                share=count / examples if examples else 0.0,
                correct=position == column,
                title=f"{count:,} of {examples:,} examples of {name} are predicted as {predicted}",
            )
            for column, (predicted, count) in enumerate(zip(charts.classes, counts, strict=False))
        ]
        rows.append(ActualClass(name, examples, cells))
    return Confusion(title, charts.classes, rows)


def residuals(new: Histogram | None, old: Histogram | None) -> list[tuple[str, Markup]]:
    """Return a plot of prediction less label over both models, or one for each if their bins differ."""
    if new is None or not any(new.rows):
        return []
    if old is None or new.edges == old.edges:
        return [("", _residuals(new, old))]
    return [("New model", _residuals(new, None)), ("Production", _residuals(old, None))]


def _residuals(new: Histogram, old: Histogram | None) -> Markup:
    none = [0.0] * len(new.rows)
    bars = Bars(edges=new.edges, current=_shares(new.rows), control=_shares(old.rows) if old else none)
    return plots.histogram(
        bars, "prediction less label", old is not None, sides=("of the new model", "of production"), mark=0.0
    )


def _shares(rows: Sequence[int]) -> list[float]:
    total = sum(rows) or 1
    return [count / total for count in rows]


def _grid(across: Axis, down: Axis) -> list[Markup]:
    """Return the ticks of both axes, their lines and their titles."""
    parts = []
    for value, text in across.ticks():
        x = across(value)
        parts += [
            plots.line(x, down.begin, x, down.end, "axis"),
            plots.text(x, down.begin + 12, text, "middle"),
        ]
    for value, text in down.ticks():
        y = down(value)
        parts += [
            plots.line(across.begin, y, across.end, y, "axis"),
            plots.text(across.begin - 5, y + 3.5, text, "end"),
        ]
    middle = (across.begin + across.end) / 2
    return [
        *parts,
        plots.text(middle, HEIGHT - 5, "predicted", "middle"),
        plots.text(across.begin + 5, TOP + 9, "actual", "start"),
    ]


def _tenth(point: CalibrationBin) -> str:
    return f"predicted {plots.number(point.predicted)}, actual {plots.number(point.actual)}, on {point.rows:,} examples"


def _drawable(points: Sequence[CalibrationBin]) -> list[CalibrationBin]:
    """Return the points with examples whose numbers fit an axis."""
    return [p for p in points if p.rows and all(abs(value) < 1e300 for value in (p.predicted, p.actual))]
