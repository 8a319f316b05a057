"""Turns records into HTML: what is worked out for a template, and the templates' environment."""

from __future__ import annotations

import base64
import calendar
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from include.contracts.distributions import FeatureDistribution
from include.contracts.night import Reason
from include.contracts.verdict import Outcome
from nightly.web import plots
from nightly.web.records import ModelRecord, NightDetails, NightRecord, Point

HERE = Path(__file__).parent
PAGE = 50  # nights a page of the list
MONTHS = 12  # of the calendar
FEATURES = 8  # drawn at once; the rest, all within their thresholds, are folded
# What a person reads for each outcome: a word, and a sign beside it, so that colour is never all there is.
SIGNS = {
    Outcome.RELEASED: ("✓", "Released", "ok"),
    Outcome.ACCEPTED: ("○", "Accepted", "info"),
    Outcome.HELD_DATA: ("!", "Held: data", "held"),
    Outcome.HELD_MODEL: ("!", "Held: model", "held"),
    Outcome.NO_DATA: ("–", "No data", "quiet"),
    Outcome.FAILED: ("✕", "Failed", "bad"),
    "": ("…", "No verdict", "quiet"),
}


@dataclass
class Metric:
    """One metric in one slice: the new model against production, and what the gate said of it."""

    name: str
    slice: str
    examples: int | None
    candidate: float | None
    production: float | None
    bound: Reason | None  # against a figure
    change: Reason | None  # against production

    @property
    def held(self) -> bool:
        return any(reason is not None and reason.held for reason in (self.bound, self.change))


@dataclass
class FeatureCard:
    """All there is to see of one feature."""

    name: str
    found: FeatureDistribution | None
    drift: Mapping[str, Sequence[Point]]  # control -> distances, the one nearest to its threshold first
    reasons: list[Reason]

    @property
    def held(self) -> bool:
        return any(reason.held for reason in self.reasons)

    @property
    def urgency(self) -> tuple[bool, float]:
        """Held first, then by how near the distance is to its threshold."""
        return self.held, max(map(nearness, self.drift.values()), default=0.0)


def nearness(points: Sequence[Point]) -> float:
    """Of this night's distance to its threshold: 1 is at it."""
    return points[-1].value / points[-1].threshold if points[-1].threshold else 0.0


@cache
def environment() -> Environment:
    """Everything a template prints is escaped, and a name that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": plots.number, "percent": plots.percent, "moment": moment, "when": version_time}
    made.globals |= {"plots": plots, "signs": SIGNS}
    return made


def page(template: str, *, base: str, user: str = "", **context: Any) -> str:
    """A page of the app. `base` is the path it is mounted at."""
    return environment().get_template(template).render(base=base, user=user, report=False, style="", **context)


def report(details: NightDetails) -> str:
    """A night as one HTML file that needs no other: no script, and no style but its own."""
    style = (HERE / "static/page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    template = environment().get_template("night.html")
    return template.render(base="", user="", report=True, style=Markup(style), policy=policy, **night(details))


def night(details: NightDetails) -> dict[str, Any]:
    """The template's context for a night."""
    reasons = details.reasons
    cards = sorted(_cards(details), key=lambda card: card.urgency, reverse=True)
    shown = max(FEATURES, sum(card.held for card in cards))
    return {
        "details": details,
        "record": details.record,
        "night": details.record.night,
        "verdict": details.record.verdict,
        "held": [reason for reason in reasons if reason.held],
        "noticed": [reason for reason in reasons if not reason.held and _notable(reason)],
        "passed": [reason for reason in reasons if not reason.held and not _notable(reason)],
        "metrics": _metrics(details),
        "cards": cards[:shown],
        "more_cards": cards[shown:],
        "card_names": {card.name for card in cards},
    }


def model(record: ModelRecord, number: int) -> dict[str, Any]:
    """The template's context for a model; `number` is the page of the list, from 1."""
    pages = max(1, -(-len(record.nights) // PAGE))
    number = min(max(number, 1), pages)
    return {
        "model": record,
        "nights": record.nights[(number - 1) * PAGE : number * PAGE],
        "number": number,
        "pages": pages,
        "months": months(record.nights),
    }


def months(nights: Sequence[NightRecord]) -> list[tuple[str, list[list[tuple[int, NightRecord | None]]]]]:
    """The latest months that have a night, newest first: a title, and weeks of (day, the night as of that day).

    Day 0 is outside of the month. Where a day has several nights, it is the one planned last.
    """
    days: dict[dt.date, NightRecord] = {}
    for record in nights:  # newest first
        if record.as_of:
            days.setdefault(record.as_of.date(), record)
    found = sorted({(day.year, day.month) for day in days}, reverse=True)[:MONTHS]
    return [
        (
            f"{calendar.month_name[month]} {year}",
            [
                [(day, days.get(dt.date(year, month, day)) if day else None) for day in week]
                for week in calendar.monthcalendar(year, month)
            ],
        )
        for year, month in found
    ]


def moment(time: dt.datetime | None) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if time else "–"


def version_time(version: int) -> str:
    """A version is Unix seconds."""
    try:
        return moment(dt.datetime.fromtimestamp(version, dt.UTC))
    except (OverflowError, OSError, ValueError):
        return "–"


def _cards(details: NightDetails) -> list[FeatureCard]:
    found = {feature.name: feature for feature in (details.distributions.features if details.distributions else [])}
    now = details.record.name
    drift = {  # a feature that was not measured in this night has no place in it
        name: {
            control: points
            for control, points in sorted(series.items(), key=lambda pair: -nearness(pair[1]))
            if points[-1].night == now
        }
        for name, series in details.drift.items()
    }
    names = found.keys() | {name for name, series in drift.items() if series}
    return [
        FeatureCard(name, found.get(name), drift.get(name, {}), [r for r in details.reasons if r.subject == name])
        for name in sorted(names)
    ]


def _metrics(details: NightDetails) -> list[Metric]:
    """Every figure of the evaluation; without its record, those that the gate judged."""
    said = {(reason.check, reason.subject): reason for reason in details.reasons}
    if details.evaluation is None:
        return [
            Metric(
                name=reason.check,
                slice="" if reason.subject == "all examples" else reason.subject,
                examples=None,
                candidate=reason.figure,
                production=None,
                bound=reason,
                change=said.get((f"{reason.check} against production", reason.subject)),
            )
            for reason in (details.model_gate.reasons if details.model_gate else [])
            if isinstance(reason.figure, float) and not reason.check.endswith(" against production")
        ]
    evaluation, found = details.evaluation, []
    for key in sorted(evaluation.candidate, key=lambda key: (key != "", -evaluation.examples.get(key, 0))):
        for name, value in sorted(evaluation.candidate[key].items()):
            subject = key or "all examples"
            production = (evaluation.production or {}).get(key, {}).get(name)
            bound, change = said.get((name, subject)), said.get((f"{name} against production", subject))
            found.append(Metric(name, key, evaluation.examples.get(key), value, production, bound, change))
    return found


def _notable(reason: Reason) -> bool:
    """Worth a look though it held nothing: a warning, an anomaly, or something that could not be measured."""
    return reason.severity == "warning" or reason.figure is None or (reason.check == "schema" and not reason.severity)
