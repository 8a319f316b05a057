"""Charts of the results, as reproducible SVG files for docs/performance.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

Row = dict[str, Any]
OURS, THEIRS, PLAIN = "#1f6f8b", "#e08e45", "#8fa3ad"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "nightly", "font.family": "sans-serif", "font.size": 9}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def draw(name: str, tables: dict[str, list[Row]], folder: Path) -> list[str]:
    """Write the charts of a benchmark to `folder`. Return their file names; [] for a benchmark that only has tables."""
    drawn = []
    for suffix, chart in CHARTS.get(name, {}).items():
        folder.mkdir(parents=True, exist_ok=True)
        with plt.rc_context(STYLE):
            figure, axes = plt.subplots(figsize=(7.5, 3), layout="constrained")
            chart(axes, *tables.values())
            figure.savefig(folder / f"{name}{suffix}.svg", metadata={"Date": None})
            plt.close(figure)
        drawn.append(f"{name}{suffix}.svg")
    return drawn


def number(cell: Any) -> float | None:
    """Return the median in a table's cell, such as `33.3 (33.0 to 33.5, 2 runs)`; None for an empty one."""
    match = re.match(r"[\d.,]+", str(cell))
    return float(match[0].replace(",", "")) if match else None


def _bars(axes: Axes, labels: list[str], series: dict[str, list[Any]], unit: str) -> None:
    """Draw horizontal bars from the top down: a group for each label, a colour for each series."""
    axes.figure.set_figheight(0.7 + 0.17 * len(labels) * (len(series) + 0.6))
    height = 0.8 / len(series)
    colours = (OURS, THEIRS, PLAIN, "#b5c99a", "#6d597a")
    for position, ((name, cells), colour) in enumerate(zip(series.items(), colours, strict=False)):
        values = [number(cell) for cell in cells]
        at = [n + position * height for n, value in enumerate(values) if value is not None]
        bars = axes.barh(at, [v for v in values if v is not None], height, color=colour, label=name)
        axes.bar_label(bars, fmt=lambda value: f"{value:,.3g}" if value < 100 else f"{value:,.0f}", padding=2)
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(labels))], labels)
    axes.set_ylim(len(labels) - height / 2, -height)
    axes.set_xlabel(unit)
    axes.margins(x=0.1)
    if len(series) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series))


def _lines(axes: Axes, rows: list[Row], columns: dict[str, str], unit: str) -> None:
    """Draw the columns against the rows, on a logarithmic axis. `columns`: name of the column -> style of its line."""
    for (column, style), colour in zip(columns.items(), plt.cm.tab10.colors, strict=False):
        points = [(number(row["rows"]), number(row[column])) for row in rows if number(row[column]) is not None]
        axes.plot(*zip(*points, strict=True), style, label=column.removesuffix(", s"), color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("rows")
    axes.set_ylabel(unit)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _night(axes: Axes, whole: list[Row], tasks: list[Row]) -> None:
    labels = ["whole night", *(row["task"] for row in tasks)]
    ours = [whole[0]["Airflow, s"], *(row.get("ours, s") for row in tasks)]
    theirs = [whole[0]["LocalDagRunner, s"], *(row.get("it, s") for row in tasks)]
    _bars(axes, labels, {"nightly-retrain, in Airflow": ours, "TFX, LocalDagRunner": theirs}, "seconds")


def _components(axes: Axes, parts: list[Row], _: list[Row]) -> None:
    series = {"nightly-retrain": [row["ours, s"] for row in parts], "TFX": [row["TFX's, s"] for row in parts]}
    _bars(axes, [row["part"] for row in parts], series, "seconds at 100,000 rows")


def _training(axes: Axes, rows: list[Row]) -> None:
    series = {column: [row[f"{column}, ms a step"] for row in rows] for column in ("Trainer", "bare loop")}
    _bars(axes, [f"{row['rows']} rows" for row in rows], series, "milliseconds a step")


def _two_models(axes: Axes, rows: list[Row]) -> None:
    names = ("complaints alone", "taxi alone", "both at once")
    _bars(axes, list(names), {"": [rows[0][f"{name}, s"] for name in names]}, "seconds")


def _seconds(label: str) -> Callable[[Axes, list[Row]], None]:
    return lambda axes, rows: _bars(axes, [r[label] for r in rows], {"": [r["seconds"] for r in rows]}, "seconds")


def _sources(axes: Axes, sources: list[Row], *_: list[Row]) -> None:
    columns = {"download": "download, s", "snapshot": "snapshot, s", "Arrow alone": "Arrow alone, s"}
    series = {label: [row[column] for row in sources] for label, column in columns.items()}
    _bars(axes, [row["source"] for row in sources], series, "seconds")


def _serving(axes: Axes, rows: list[Row]) -> None:
    loads = list(dict.fromkeys((row["rows"], row["clients"]) for row in rows))
    servers = list(dict.fromkeys(row["server"] for row in rows))
    rates = {(row["rows"], row["clients"], row["server"]): row["requests/s"] for row in rows}
    labels = [f"rows: {size}, clients: {clients}" for size, clients in loads]
    _bars(axes, labels, {server: [rates[*load, server] for load in loads] for server in servers}, "requests a second")


def _scaling_seconds(axes: Axes, seconds: list[Row], _: list[Row]) -> None:
    columns = [column for column in seconds[0] if column != "rows"]
    _lines(axes, seconds, {column: "o-" if column[0].islower() else "s--" for column in columns}, "seconds")
    axes.set_yscale("log")


def _scaling_memory(axes: Axes, _: list[Row], memory: list[Row]) -> None:
    _lines(axes, memory, {column: "o-" for column in memory[0] if column != "rows"}, "MB, largest resident set")
    axes.set_ylim(bottom=0)


CHARTS: dict[str, dict[str, Callable[..., None]]] = {
    "night": {"": _night},
    "large_night": {"": _night},
    "unchanged": {"": _seconds("night")},
    "two_models": {"": _two_models},
    "components": {"": _components},
    "training": {"": _training},
    "start": {"": _seconds("started")},
    "scaling": {"": _scaling_seconds, "_memory": _scaling_memory},
    "sources": {"": _sources},
    "serving": {"": _serving},
}
