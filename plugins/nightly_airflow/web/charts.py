"""Charts of a model beside the one in production: calibration, confusion matrices, residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from nightly.records.evaluation import CalibrationBin, Charts, Evaluation, Histogram
from nightly_airflow.web import plots
from nightly_airflow.web.axes import Axis

WIDTH, HEIGHT = 320, 250  # of the viewBox; the page scales it
SHORT = 150  # the height of a plot of residuals
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 34
SHADES = 10  # classes of colour in a confusion matrix, as the content security policy forbids inline styles


@dataclass
class Cell:
    """Examples of one actual class that were predicted as one class."""

    count: float  # of the examples, or their weight
    share: float  # of the examples of the actual class
    correct: bool
    title: str

    @property
    def shade(self) -> int:
        """The share as a whole number, 0 (none, or no share) to SHADES (all)."""
        return math.ceil(self.share * SHADES - 1e-9) if 0 <= self.share <= 1 else 0


@dataclass
class ActualClass:
    """A row of a confusion matrix."""

    name: str
    cells: list[Cell]


@dataclass
class Confusion:
    """The confusion matrix of one model."""

    title: str
    classes: list[str]
    rows: list[ActualClass]
    weighted: bool

    @property
    def summary(self) -> str:
        """Return the matrix in one sentence: how many are right, and the most frequent mistake."""
        cells = [(row, name, cell) for row in self.rows for name, cell in zip(self.classes, row.cells, strict=False)]
        examples = sum(cell.count for _, _, cell in cells)
        right = sum(cell.count for _, _, cell in cells if cell.correct)
        unit, times = ("of the weight is", "of the weight") if self.weighted else ("examples are", "times")
        text = f"{plots.number(right)} of {plots.number(examples)} {unit} right"
        wrong = [(cell.count, row.name, name) for row, name, cell in cells if cell.count and not cell.correct]
        if not wrong:
            return text
        count, actual, predicted = max(wrong, key=lambda mistake: mistake[0])
        mistake = f"{plots.brief(actual)} is taken for {plots.brief(predicted)}, {plots.number(count)} {times}"
        return f"{text}; most often {mistake}"


@dataclass
class ModelCharts:
    """What the page draws of the model and of production; empty where the label's kind has no such chart."""

    weighted: bool  # whether examples count by their weight
    calibration: Markup
    with_production: bool  # whether the plots show production, too
    confusions: list[Confusion]  # the new model's, then production's
    threshold: float | None  # of a binary label: the probability above which an example is predicted to be positive
    residuals: Markup


def charts_of(evaluation: Evaluation | None) -> ModelCharts | None:
    """Return the charts of an evaluation; None if it has none."""
    if evaluation is None or not (new := evaluation.charts.get("candidate")):
        return None
    old = evaluation.charts.get("production") or Charts()
    confusions = [confusion(new, "New model"), confusion(old, f"Production, version {evaluation.production_version}")]
    unit = "weight" if new.weighted else "examples"
    charts = ModelCharts(
        weighted=new.weighted,
        calibration=calibration(new.calibration, old.calibration, unit),
        with_production=bool(old.calibration or old.residuals),
        confusions=[matrix for matrix in confusions if matrix],
        threshold=new.threshold,
        residuals=residuals(new.residuals, old.residuals, unit),
    )
    return charts if charts.calibration or charts.confusions or charts.residuals else None


def calibration(new: Sequence[CalibrationBin], old: Sequence[CalibrationBin], unit: str) -> Markup:
    """Return a plot of actual means by predicted means, for each tenth of the examples or weight; "" without any.

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
    label = f"Calibration by tenths of the {unit}; the new model is furthest off where it has {_tenth(furthest)}"
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
                title=f"{plots.number(count)} of {plots.number(examples)} of {plots.brief(name)} are predicted as "
                f"{plots.brief(predicted)}",
            )
            for column, (predicted, count) in enumerate(zip(charts.classes, counts, strict=False))
        ]
        rows.append(ActualClass(name, cells))
    return Confusion(title, charts.classes, rows, charts.weighted)


def residuals(new: Histogram | None, old: Histogram | None, unit: str) -> Markup:
    """Return a plot of the distributions of prediction minus label; "" without any.

    The new model's is filled, production's a stepped line. Areas are shares, since the two have different bins.
    """
    if new is None or not _has_area(new):
        return Markup("")
    sides = [side for side in (new, old) if side and _has_area(side)]
    across = Axis.between(min(side.edges[0] for side in sides), max(side.edges[-1] for side in sides), 4, WIDTH - 4)
    densities = [_densities(side) for side in sides]
    tallest = max(max(side) for side in densities)

    def y(density: float) -> float:
        return SHORT - 18 - density / tallest * (SHORT - 18 - TOP)

    parts, total = [], sum(new.rows)
    for (low, high), density, count in zip(pairwise(new.edges), densities[0], new.rows, strict=False):
        title = f"{plots.number(low)} to {plots.number(high)}: {plots.percent(count / total)} of the {unit}"
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
            ).format(across(low), y(density), max(across(high) - across(low) - 0.5, 0.5), y(0) - y(density), title)
        )
    if len(sides) > 1 and old:
        steps = [(old.edges[0], 0.0)]
        for (low, high), density in zip(pairwise(old.edges), densities[1], strict=False):
            steps += [(low, density), (high, density)]
        path = " ".join(f"{across(x):.1f},{y(density):.1f}" for x, density in [*steps, (old.edges[-1], 0.0)])
        parts.append(Markup('<polyline class="control" points="{}"/>').format(path))
    parts.append(plots.line(4, y(0), WIDTH - 4, y(0), "axis"))
    if across.low <= 0 <= across.high:
        parts.append(plots.line(across(0), TOP, across(0), y(0), "zero"))
    parts += [plots.text(across(value), SHORT - 4, text, "middle") for value, text in across.ticks()]
    most = max(range(len(new.rows)), key=lambda position: densities[0][position])
    where = f"{plots.number(new.edges[most])} to {plots.number(new.edges[most + 1])}"
    return plots.svg(parts, f"Prediction minus label: most often from {where} with the new model", SHORT)


def _densities(side: Histogram) -> list[float]:
    """Return the share of the examples by unit, in each bin."""
    total = sum(side.rows)
    bins = zip(side.rows, pairwise(side.edges), strict=False)
    return [count / total / (high - low) for count, (low, high) in bins]


def _has_area(side: Histogram) -> bool:
    """Return whether the histogram has examples, and bins of a width that can be drawn."""
    if len(side.edges) != len(side.rows) + 1 or not all(count >= 0 for count in side.rows):
        return False
    widths = all(low < high for low, high in pairwise(side.edges))
    return 0 < sum(side.rows) < math.inf and widths and all(map(_fits, side.edges))


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
    middle, scale = (across.begin + across.end) / 2, ", logarithmic scale" if across.logarithmic else ""
    return [
        *parts,
        plots.text(middle, HEIGHT - 5, f"predicted{scale}", "middle"),
        plots.text(across.begin + 5, TOP + 9, "actual", "start"),
    ]


def _tenth(point: CalibrationBin) -> str:
    return f"predicted {plots.number(point.predicted)}, actual {plots.number(point.actual)}, on {point.rows:,} examples"


def _drawable(points: Sequence[CalibrationBin]) -> list[CalibrationBin]:
    """Return the points with examples whose numbers fit an axis."""
    return [point for point in points if point.rows and _fits(point.predicted) and _fits(point.actual)]


def _fits(value: float) -> bool:
    """Return whether a number is not too large for the arithmetic of an axis."""
    return abs(value) < 1e150
