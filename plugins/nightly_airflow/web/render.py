"""Turns records into HTML: what is worked out for a template, and the templates' environment."""

from __future__ import annotations

import base64
import calendar
import datetime as dt
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nightly.nights.causes import Cause, causes
from nightly.nights.commands import Remedy, Request, remedies
from nightly.nights.report import SIGNS as OUTCOME_SIGNS
from nightly.nights.report import against
from nightly.records.night import Reason
from nightly.records.verdict import Outcome
from nightly_airflow.docs import when_it_fails
from nightly_airflow.web import plots
from nightly_airflow.web.cards import feature_cards, metrics_of, serving_cards
from nightly_airflow.web.views import Canary, ModelRecord, NightDetails, NightRecord

HERE = Path(__file__).parent
PAGE = 50  # nights a page of the list
MONTHS = 12  # of the calendar
CANARIES = 12  # ended ones, with their plots
FEATURES = 8  # drawn at once; the rest, all within their thresholds, are folded
# What a person reads for each outcome: a word, and a sign beside it, so that colour is never all there is.
WORDS = {
    Outcome.RELEASED: ("Released", "ok"),
    Outcome.ACCEPTED: ("Accepted", "info"),
    Outcome.HELD_DATA: ("Held: data", "held"),
    Outcome.HELD_MODEL: ("Held: model", "held"),
    Outcome.NO_DATA: ("No data", "quiet"),
    Outcome.FAILED: ("Failed", "bad"),
}
SIGNS = {outcome: (OUTCOME_SIGNS[outcome], *words) for outcome, words in WORDS.items()} | {
    "": ("…", "No verdict", "quiet")
}
# The models that the overview begins with.
URGENT = (Outcome.FAILED, Outcome.HELD_DATA, Outcome.HELD_MODEL, Outcome.NO_DATA)

# The same for a canary: how it stands, or how it ended.
CANARY_SIGNS = {
    "promote": ("✓", "Promoted", "ok"),
    "stop": ("!", "Stopped", "held"),
    "wait": ("…", "Being compared", "info"),
    "": ("–", "Ended", "quiet"),
}


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
    made.filters |= {
        "figure": plots.number,
        "percent": plots.percent,
        "moment": moment,
        "when": version_time,
        "canary": canary_says,
        "against": against,
    }
    made.globals |= {"plots": plots, "signs": SIGNS, "canary_signs": CANARY_SIGNS}
    return made


def page(template: str, *, base: str, user: str = "", **context: Any) -> str:
    """A page of the app. `base` is the path it is mounted at."""
    return environment().get_template(template).render(base=base, user=user, report=False, style="", **context)


def report(details: NightDetails, log: str = "") -> str:
    """A night as one HTML file that needs no other: no script, and no style but its own."""
    style = (HERE / "static/page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    template = environment().get_template("night.html")
    return template.render(base="", user="", report=True, style=Markup(style), policy=policy, **night(details, log))


def night(details: NightDetails, log: str = "") -> dict[str, Any]:
    """The template's context for a night; `log` is the end of its failed task's."""
    reasons = details.reasons
    found = causes(reasons)
    metrics = metrics_of(details)
    plain = [metric for metric in metrics if metric.slice and not metric.held]
    cards = sorted(feature_cards(details), key=lambda card: card.urgency, reverse=True)
    shown = max(FEATURES, sum(card.held for card in cards))
    return {
        "details": details,
        "record": details.record,
        "night": details.record.night,
        "verdict": details.record.verdict,
        "causes": found,
        "cause_of": {(cause.kind, cause.subject): number for number, cause in enumerate(found, 1)},
        "remedies": _remedies(details, found),
        "failed": _failed(details, log),
        "noticed": [reason for reason in reasons if not reason.held and _notable(reason)],
        "passed": [reason for reason in reasons if not reason.held and not _notable(reason)],
        "metrics": [metric for metric in metrics if metric not in plain],
        "more_metrics": plain,
        "cards": cards[:shown],
        "more_cards": cards[shown:],
        "card_names": {card.name for card in cards},
        "threshold_changes": threshold_changes(details),
        "serving_cards": serving_cards(details),
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
        "compared": {canary.version: canary_says(canary) for canary in record.canaries if not canary.live},
        "ended_canaries": [canary for canary in record.canaries if not canary.live][:CANARIES],
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


def canary_says(found: Canary) -> tuple[str, str]:
    """How a canary stands, as a key of CANARY_SIGNS, and the last decision in one sentence."""
    comparison, release = found.comparison, found.release
    if comparison and comparison.decision:
        by = f" (decided by {comparison.decided_by})" if comparison.decided_by != "the comparison" else ""
        open_end = "" if comparison.done_at else "; not carried out to its end yet: the next look completes it"
        return comparison.decision, f"{comparison.reason}{by}{open_end}"
    if found.live:
        return "wait", found.last.reason if found.last else "no look at it is recorded yet"
    why = (
        f"it is {release.state}" + (f": {release.why}" if release.why else "") if release else "its release is unknown"
    )
    return "", f"the comparison did not decide; {why}"


def threshold_changes(details: NightDetails) -> str:
    """What a night was judged by, against the night before it, in one sentence; "" where it is not known."""
    if details.thresholds is None:
        return ""
    if details.judged_before is None:
        return "no night before it is known to compare with"
    before, used = details.judged_before
    changes = details.thresholds.changes_since(used)
    if not changes:
        return f"the same as in the night of {before.title}"
    return f"changed since the night of {before.title}: {'; '.join(changes)}"


def _remedies(details: NightDetails, found: list[Cause]) -> list[Remedy]:
    if not found or details.record.verdict is None:
        return []
    return remedies(_request(details), found, details.thresholds, details.proposal)


def _request(details: NightDetails) -> Request:
    record = details.record
    backfill = record.name.startswith("backfill__")  # of a night that was never planned this is all that is known
    night = record.night
    return Request(
        record.model,
        record.run_id,
        record.as_of,
        release=night.release if night else not backfill,
        by_command=night is not None and night.trigger == "command",
    )


def _failed(details: NightDetails, log: str) -> dict[str, str] | None:
    """What stands on the page of a failed night beside its errors; None where none failed."""
    task, url = details.failed_task, details.record.run_url
    if not task:
        return None
    link = f"{url}/tasks/{task}" if url else ""
    return {"task": task, "advice": when_it_fails(task), "command": _request(details).again(), "log": log, "url": link}


def most_urgent_first(models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Failed ones, then held ones, then those without data, then the others; by name."""

    def order(model: ModelRecord) -> tuple[int, str]:
        outcome = model.last.outcome if model.last else ""
        return URGENT.index(outcome) if outcome in URGENT else len(URGENT), model.name

    return sorted(models, key=order)


def _notable(reason: Reason) -> bool:
    """Worth a look though it held nothing: a warning, an anomaly, or something that could not be measured."""
    return reason.severity == "warning" or reason.figure is None or (reason.check == "schema" and not reason.severity)
