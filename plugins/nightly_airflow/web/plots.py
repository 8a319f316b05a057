"""Plots as SVG text, without scripts or style attributes; each has its values as text, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from nightly.records.canary import Look
from nightly.records.distributions import Histogram
from nightly_airflow.web.history import Point

WIDTH, HEIGHT = 320, 96  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 4, 4, 8, 18
LONG = 100  # characters of a value that are shown


def number(value: float | int | str | None) -> str:
    """Return a number as people write it; "–" for None."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return str(value)
    if 0 < abs(value) < 0.0001:
        return "≈ 0"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 999.5 else f"{value:.3g}"


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share * 100:.0f} %" if share in (0, 1) else f"{share * 100:.1f} %"


def brief(value: str) -> str:
    """Return a value as it fits a table: the beginning of a long text, and the size of what is no text."""
    if any(not (character.isprintable() or character.isspace()) for character in value[:LONG]):
        return f"({len(value):,} characters that are not text)"
    return f"{value[:LONG]} … ({len(value):,} characters)" if len(value) > LONG + 20 else value


def timeline(points: Sequence[Point], label: str, show: Callable[[float], str] = number) -> Markup:
    """Return a plot of values by time: a dot for each night, a square if it was held, the threshold dashed.

    :param show: returns the text of a value
    """
    lowest = min([0.0, *(p.value for p in points)]) * 1.15
    highest = max([0.0, *(p.value for p in points), *(p.threshold or 0 for p in points)]) * 1.15
    highest = highest if highest > lowest else 1.0
    first, last = points[0].as_of.timestamp(), points[-1].as_of.timestamp()

    def x(point: Point) -> float:
        share = (point.as_of.timestamp() - first) / (last - first) if last > first else 0.5
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y(value: float) -> float:
        return TOP + (highest - value) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)

    now = points[-1]
    limit = f", threshold {show(now.threshold)}" if now.threshold is not None else ""
    parts = [line(LEFT, y(0), WIDTH - RIGHT, y(0), "axis")]
    limits = [(x(p), y(p.threshold)) for p in points if p.threshold is not None]
    if limits:
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in limits)
        begin, end = f"{LEFT},{limits[0][1]:.1f}", f"{WIDTH - RIGHT},{limits[-1][1]:.1f}"
        parts.append(Markup('<polyline class="limit" points="{} {} {}"/>').format(begin, path, end))
    parts.append(
        Markup('<polyline class="series" points="{}"/>').format(
            " ".join(f"{x(p):.1f},{y(p.value):.1f}" for p in points)
        )
    )
    for point in points:
        title = f"{point.as_of:%Y-%m-%d}: {show(point.value)}" + (", held the night" if point.held else "")
        over = " over" if point.threshold is not None and point.value > point.threshold else ""
        if point.held:
            shape = Markup('<rect class="dot over" x="{:.1f}" y="{:.1f}" width="8" height="8">').format(
                x(point) - 4, y(point.value) - 4
            ) + Markup("<title>{}</title></rect>").format(title)
        else:
            shape = Markup('<circle class="dot{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(
                over, x(point), y(point.value), title
            )
        parts.append(shape)
    parts.append(text(LEFT, HEIGHT - 4, f"{points[0].as_of:%Y-%m-%d}", "start"))
    if len(points) > 1:
        parts.append(text(WIDTH - RIGHT, HEIGHT - 4, f"{now.as_of:%Y-%m-%d}", "end"))
    highest_night = max(points, key=lambda point: point.value)
    top = f"{show(highest_night.value)} on {highest_night.as_of:%Y-%m-%d}"
    return svg(parts, f"{label}: {show(now.value)}{limit}; {len(points)} nights, highest {top}")


def differences(looks: Sequence[Look], label: str) -> Markup:
    """Return a plot of a canary's difference from production at each look, with interval, zero line and dashed margin.

    The last interval sets the scale, since the early ones are so wide that the later ones would be invisible.
    """
    now = looks[-1]
    ends = [0.0, now.low, now.high, now.difference, now.margin]
    spare = (max(ends) - min(ends)) * 0.25 or 1.0
    lowest, highest = min(ends) - spare, max(ends) + spare
    first, last = looks[0].at.timestamp(), now.at.timestamp()

    def x(look: Look) -> float:
        share = (look.at.timestamp() - first) / (last - first) if last > first else 0.5
        return LEFT + 8 + share * (WIDTH - LEFT - RIGHT - 16)

    def y(value: float) -> float:
        return TOP + (highest - value) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)

    parts = [
        line(LEFT, y(value), WIDTH - RIGHT, y(value), kind) for value, kind in ((0, "zero"), (now.margin, "limit"))
    ]
    for look in looks:
        low, high = max(look.low, lowest), min(look.high, highest)
        marks = [line(x(look), y(low), x(look), y(high), "interval")] if low < high else []
        visible_ends = [value for value in (look.low, look.high) if lowest <= value <= highest]
        marks += [line(x(look) - 3, y(value), x(look) + 3, y(value), "interval") for value in visible_ends]
        if lowest <= look.difference <= highest:
            marks.append(
                Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(x(look), y(look.difference))
            )
        title = (
            f"{look.at:%Y-%m-%d %H:%M}: {_interval(look)}; {look.canary.labelled:,} labelled predictions of the canary"
        )
        parts.append(Markup("<g><title>{}</title>{}</g>").format(title, Markup("").join(marks)))
    parts.append(text(LEFT, HEIGHT - 4, f"{looks[0].at:%Y-%m-%d}", "start"))
    if len(looks) > 1:
        parts.append(text(WIDTH - RIGHT, HEIGHT - 4, f"{now.at:%Y-%m-%d}", "end"))
    return svg(parts, f"{label}: {_interval(now)}; {now.margin:g} would matter; {len(looks)} looks")


def _interval(look: Look) -> str:
    return f"{look.difference:+.4f}, from {look.low:+.4f} to {look.high:+.4f}"


def histogram(bars: Histogram, name: str, with_control: bool) -> Markup:
    """Return a plot of both sides over the same bins: current as filled bars, control as a stepped line.

    "" without bins.
    """
    bins = len(bars.current)
    if not bins or not bins == len(bars.control) == len(bars.edges) - 1:
        return Markup("")
    tallest = max([*bars.current, *bars.control, 1e-9])
    width = (WIDTH - LEFT - RIGHT) / bins
    base = HEIGHT - BOTTOM

    def height(share: float) -> float:
        return share / tallest * (HEIGHT - TOP - BOTTOM)

    parts = []
    steps = [f"{LEFT},{base}"]
    for position, (current, control) in enumerate(zip(bars.current, bars.control, strict=True)):
        left = LEFT + position * width
        title = f"{_bin_label(bars.edges, position)}: {percent(current)}"
        title += f" now, {percent(control)} in the control" if with_control else ""
        parts.append(
            Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                left + 0.75, base - height(current), max(width - 1.5, 0.5), height(current)
            )
        )
        # Transparent and as tall as the plot, so that a small bar also shows its title.
        parts.append(
            Markup('<rect class="hit" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>').format(
                left, TOP, width, base - TOP, title
            )
        )
        steps += [f"{left:.1f},{base - height(control):.1f}", f"{left + width:.1f},{base - height(control):.1f}"]
    parts.append(line(LEFT, base, WIDTH - RIGHT, base, "axis"))
    if with_control:
        steps.append(f"{WIDTH - RIGHT},{base}")
        parts.append(Markup('<polyline class="control" points="{}"/>').format(" ".join(steps)))
    parts += _edge_labels(bars.edges, bins, width)
    return svg(parts, f"Distribution of {name}: {_summary(bars, with_control)}")


def tails(bars: Histogram) -> str:
    """Return which outer bars are wider than the others, because they hold a whole tail."""
    edges = bars.edges
    if len(edges) < 4:
        return ""
    wide = (edges[2] - edges[1]) * 1.01
    parts = [f"the first bar is all below {number(edges[1])}"] if edges[1] - edges[0] > wide else []
    wide = (edges[-2] - edges[-3]) * 1.01
    parts += [f"the last bar is all from {number(edges[-2])}"] if edges[-1] - edges[-2] > wide else []
    return ", ".join(parts)


def _edge_labels(edges: Sequence[float], bins: int, width: float) -> list[Markup]:
    y = HEIGHT - 4
    if _by_number(edges):  # each bin is a whole number
        return [text(LEFT + (i + 0.5) * width, y, number(edge + 0.5), "middle") for i, edge in enumerate(edges[:-1])]
    if bins < 4:
        return [text(LEFT, y, number(edges[0]), "start"), text(WIDTH - RIGHT, y, number(edges[-1]), "end")]
    middle = bins // 2
    return [
        text(LEFT, y, number(edges[0]), "start"),
        text(LEFT + middle * width, y, number(edges[middle]), "middle"),
        text(WIDTH - RIGHT, y, number(edges[-1]), "end"),
    ]


def _by_number(edges: Sequence[float]) -> bool:
    return 2 < len(edges) <= 12 and all(edge % 1 == 0.5 for edge in edges)


def _bin_label(edges: Sequence[float], position: int) -> str:
    if _by_number(edges):
        return number(edges[position] + 0.5)
    return f"{number(edges[position])} to {number(edges[position + 1])}"


def _summary(bars: Histogram, with_control: bool) -> str:
    most = max(range(len(bars.current)), key=lambda i: bars.current[i])
    summary = f"most now in {_bin_label(bars.edges, most)} ({percent(bars.current[most])}"
    return summary + (f", {percent(bars.control[most])} in the control)" if with_control else ")")


def share_bar(current: float, control: float, tallest: float, with_control: bool) -> Markup:
    """Return two thin bars, one below the other: current filled, control outlined."""
    scale = 100 / max(tallest, 1e-9)
    parts = [Markup('<rect class="bar" x="0" y="1" width="{:.1f}" height="7"/>').format(current * scale)]
    if with_control:
        parts.append(
            Markup('<rect class="control-bar" x="0.5" y="10" width="{:.1f}" height="4"/>').format(control * scale)
        )
    return Markup(
        '<svg class="share" viewBox="0 0 101 16" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup("").join(parts))


def svg(parts: Sequence[Markup], label: str, height: int = HEIGHT) -> Markup:
    """Return a plot of these parts; `label` describes it for screen readers."""
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def text(x: float, y: float, content: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, escape(content))
