"""The output of the commands on data: tables for people, JSON for machines."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from nightly.io.tables import cell, print_table


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=str))


def print_summary(rows: Iterable[Any]) -> None:
    """Print a line for each summaries.FeatureSummary."""
    header = ["FEATURE", "TYPE", "MISSING", "UNIQUE", "MIN", "MEDIAN", "MAX", "MEAN", "ZEROS", "TOP VALUES"]
    print_table(header, [_summary_cells(row) for row in rows], right=range(2, 9))


def print_distances(distances: Iterable[Any], judged: bool, now: dict[str, Any], before: dict[str, Any]) -> None:
    """Print a line for each comparing.Explained, with the summaries of `now` and `before` (feature -> summary)."""
    header = ["", "FEATURE", "MEASURE", "DISTANCE", "ALLOWED", "MISSING", "BEFORE", "TYPICAL", "BEFORE", "MOST CHANGED"]
    rows = [_distance_cells(each, judged, now.get(each.feature), before.get(each.feature)) for each in distances]
    print_table(header, rows, right={3, 4, 5, 6})


def distance_json(distance: Any, judged: bool) -> dict[str, Any]:
    """Return a comparing.Explained as plain data, with its threshold only if it was judged."""
    contributions = [contribution.model_dump() for contribution in distance.contributions]
    data = asdict(distance) | {"contributions": contributions}
    return data | ({"passed": distance.passed} if judged else {"threshold": None})


def _summary_cells(row: Any) -> list[str]:
    top = ", ".join(f"{cell(value)[:24]} {rows:,}" for value, rows in row.top.items())
    return [
        row.name,
        row.type if row.values <= 1 else f"{row.type} x {row.values:.3g}",
        _percent(row.missing),
        "" if row.unique is None else f"{row.unique:,}",
        *map(_number, (row.min, row.median, row.max, row.mean)),
        "" if row.zeros is None else _percent(row.zeros),
        top,
    ]


def _distance_cells(distance: Any, judged: bool, now: Any, before: Any) -> list[str]:
    most = "; ".join(
        f"{cell(value.value)} {_percent(value.share)} ({'new' if value.control is None else _percent(value.control)})"
        for value in distance.contributions[:2]
    )
    state = ("ok" if distance.passed else "not judged" if distance.why else "BEYOND") if judged else ""
    return [
        state,
        distance.feature,
        distance.norm,
        _number(distance.value),
        _number(distance.threshold) if judged else "",
        *(_percent(side.missing) if side else "" for side in (now, before)),
        *(_typical(side) for side in (now, before)),
        distance.why if distance.value is None or (judged and distance.why) else most,
    ]


def _typical(row: Any) -> str:
    """Return the median, or the most frequent value."""
    if row is None:
        return "-"
    return _number(row.median) if row.median is not None else cell(next(iter(row.top), ""))[:20]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
