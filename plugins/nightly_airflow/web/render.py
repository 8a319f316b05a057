"""Turns records into HTML: the templates' contexts and environment."""

from __future__ import annotations

import base64
import calendar
import datetime as dt
import hashlib
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nightly.nights.causes import Cause, causes
from nightly.nights.commands import Remedy, Request, remedies
from nightly.nights.report import SIGNS as OUTCOME_SIGNS
from nightly.nights.report import against, of_all_classes
from nightly.records.night import Reason
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome
from nightly_airflow.docs import when_it_fails
from nightly_airflow.web import plots
from nightly_airflow.web.cards import FeatureCard, feature_cards, serving_cards
from nightly_airflow.web.charts import charts_of
from nightly_airflow.web.labels import label_view
from nightly_airflow.web.metrics import model_metrics
from nightly_airflow.web.views import Canary, ModelRecord, NightDetails, NightRecord

HERE = Path(__file__).parent
PAGE = 50  # nights on a page of the list
MONTHS = 12  # in the calendar
CANARIES = 12  # ended canaries shown with their plots
FEATURES = 8  # shown unfolded; held features are always unfolded
# The label and colour of each outcome. A sign stands beside it, so that colour is never the only mark.
LABELS = {
    Outcome.RELEASED: ("Released", "ok"),
    Outcome.ACCEPTED: ("Accepted", "info"),
    Outcome.HELD_DATA: ("Held: data", "held"),
    Outcome.HELD_MODEL: ("Held: model", "held"),
    Outcome.NO_DATA: ("No data", "quiet"),
    Outcome.FAILED: ("Failed", "bad"),
}
SIGNS = {outcome: (OUTCOME_SIGNS[outcome], *label) for outcome, label in LABELS.items()} | {
    "": ("…", "No verdict", "quiet")
}
# The legend of the calendar, where both kinds of held nights look the same.
LEGEND = [
    (SIGNS[outcome][0], "Held" if outcome is Outcome.HELD_DATA else SIGNS[outcome][1], SIGNS[outcome][2])
    for outcome in (Outcome.RELEASED, Outcome.ACCEPTED, Outcome.HELD_DATA, Outcome.NO_DATA, Outcome.FAILED)
]
# The outcomes of models that the overview shows first.
URGENT = (Outcome.FAILED, Outcome.HELD_DATA, Outcome.HELD_MODEL, Outcome.NO_DATA)

# The same for a canary's state or decision.
CANARY_SIGNS = {
    "promote": ("✓", "Promoted", "ok"),
    "stop": ("!", "Stopped", "held"),
    "wait": ("…", "Being compared", "info"),
    "": ("–", "Ended", "quiet"),
}


@cache
def environment() -> Environment:
    """Return the templates' environment: all output is escaped, and a missing name is an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "figure": plots.number,
        "percent": plots.percent,
        "moment": moment,
        "when": version_time,
        "canary": canary_status,
        "against": against,
        "brief": plots.brief,
        "of_all_classes": of_all_classes,
    }
    env.globals |= {"plots": plots, "signs": SIGNS, "canary_signs": CANARY_SIGNS}
    return env


def page(template: str, *, base: str, user: str = "", **context: Any) -> str:
    """Return a page of the app, which is mounted at the path `base`."""
    return environment().get_template(template).render(base=base, user=user, report=False, style="", **context)


def report(details: NightDetails, log: str = "") -> str:
    """Return a night as one self-contained HTML file, without scripts."""
    style = (HERE / "static/page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    template = environment().get_template("night.html")
    return template.render(base="", user="", report=True, style=Markup(style), policy=policy, **night(details, log))


def night(details: NightDetails, log: str = "") -> dict[str, Any]:
    """Return the template's context for a night; `log` is the end of its failed task's log."""
    reasons = details.reasons
    held_by = causes(reasons)
    cards = sorted(feature_cards(details), key=lambda card: card.urgency, reverse=True)
    card_names = {card.name for card in cards}
    label = label_view(details)
    label_cards = [card for card in cards if label and card.name == label.column]
    cards = [card for card in cards if card not in label_cards]
    shown = max(FEATURES, sum(card.held for card in cards))
    summary = details.record.verdict.summary if details.record.verdict else ""
    return {
        "details": details,
        "record": details.record,
        "night": details.record.night,
        "verdict": details.record.verdict,
        "causes": [(cause, cause.headline in summary) for cause in held_by],
        "cause_of": partial(_cause_of, held_by),
        "remedies": _remedies(details, held_by),
        "failed": _failed(details, log),
        "noticed": [reason for reason in reasons if not reason.held and _notable(reason)],
        "passed": [reason for reason in reasons if not reason.held and not _notable(reason)],
        "metrics": model_metrics(details),
        "charts": charts_of(details.evaluation),
        "label": label,
        "label_cards": [card.without_values() for card in label_cards] if label and label.classes else label_cards,
        "cards": cards[:shown],
        "more_cards": cards[shown:],
        "card_names": card_names,
        "threshold_changes": threshold_changes(details),
        "serving_cards": serving_cards(details),
    }


def release(record: ReleaseRecord, details: NightDetails | None) -> dict[str, Any]:
    """Return the template's context for a release; `details` are of its night, None if that is not kept."""
    its_own = details is not None and details.release is not None and details.release.version == record.version
    return {
        "model": record.model,
        "title": f"Version {record.version}",
        "values": record.model_dump(mode="json"),
        "night": details.record.name if details else "",
        "details": details,
        "metrics": model_metrics(details) if details and its_own else None,
        "charts": charts_of(details.evaluation) if details and its_own else None,
    }


def model(record: ModelRecord, number: int) -> dict[str, Any]:
    """Return the template's context for a model; `number` is the page of the list, from 1."""
    pages = max(1, -(-len(record.nights) // PAGE))
    number = min(max(number, 1), pages)
    return {
        "model": record,
        "nights": record.nights[(number - 1) * PAGE : number * PAGE],
        "number": number,
        "pages": pages,
        "months": months(record.nights),
        "legend": LEGEND,
        "compared": {canary.version: canary_status(canary) for canary in record.canaries if not canary.live},
        "ended_canaries": [canary for canary in record.canaries if not canary.live][:CANARIES],
    }


def months(nights: Sequence[NightRecord]) -> list[tuple[str, list[list[tuple[int, NightRecord | None]]]]]:
    """Return the latest months with a night, newest first: a title, and weeks of (day, the night as of that day).

    Day 0 is outside the month. If a day has several nights, the last planned is returned.
    """
    days: dict[dt.date, NightRecord] = {}
    for record in nights:  # newest first
        if record.as_of:
            days.setdefault(record.as_of.date(), record)
    latest = sorted({(day.year, day.month) for day in days}, reverse=True)[:MONTHS]
    return [
        (
            f"{calendar.month_name[month]} {year}",
            [
                [(day, days.get(dt.date(year, month, day)) if day else None) for day in week]
                for week in calendar.monthcalendar(year, month)
            ],
        )
        for year, month in latest
    ]


def moment(time: dt.datetime | None) -> str:
    """Return a time in UTC; "–" for None, and for the first or last day of the calendar if UTC has not reached it."""
    try:
        return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if time else "–"
    except OverflowError:
        return "–"


def version_time(version: int) -> str:
    """Return the time of a version number, which is in Unix seconds."""
    try:
        return moment(dt.datetime.fromtimestamp(version, dt.UTC))
    except (OverflowError, OSError, ValueError):
        return "–"


def canary_status(canary: Canary) -> tuple[str, str]:
    """Return a canary's state, as a key of CANARY_SIGNS, and its last decision in one sentence."""
    comparison, release = canary.comparison, canary.release
    if comparison and comparison.decision:
        unfinished = "" if comparison.done_at else "; not carried out completely yet: the next comparison completes it"
        return comparison.decision, f"{comparison.why}{unfinished}"
    if canary.live:
        return "wait", canary.last.reason if canary.last else "no comparison is recorded yet"
    why = (
        f"it is {release.state}" + (f": {release.why}" if release.why else "") if release else "its release is unknown"
    )
    return "", f"the comparison did not decide; {why}"


def threshold_changes(details: NightDetails) -> str:
    """Return how a night's thresholds differ from the night before, in one sentence; "" if they are unknown."""
    if details.thresholds is None:
        return ""
    if details.judged_before is None:
        return "no night before it is known to compare with"
    before, thresholds = details.judged_before
    changes = details.thresholds.changes_since(thresholds)
    if not changes:
        return f"the same as in the night of {before.title}"
    return f"changed since the night of {before.title}: {'; '.join(changes)}"


def _cause_of(held_by: Sequence[Cause], card: FeatureCard) -> int:
    """Return the number of the first cause with a held finding of the feature; that cause may be the delivery."""
    held = [reason for reason in card.reasons if reason.held]
    return next(number for number, cause in enumerate(held_by, 1) if any(reason in cause.reasons for reason in held))


def _remedies(details: NightDetails, held_by: list[Cause]) -> list[Remedy]:
    if not held_by or details.record.verdict is None:
        return []
    return remedies(_request(details), held_by, details.thresholds, details.proposal)


def _request(details: NightDetails) -> Request:
    record = details.record
    if record.night:
        return Request.of(record.night)
    backfill = record.name.startswith("backfill__")  # the night was never planned: only the name is known
    return Request(record.model, record.run_id, record.as_of, release=not backfill)


def _failed(details: NightDetails, log: str) -> dict[str, str] | None:
    """Return what the page shows of the failed task beside its errors; None if none failed."""
    task, url = details.failed_task, details.record.run_url
    if not task:
        return None
    link = f"{url}/tasks/{task}" if url else ""
    return {"task": task, "advice": when_it_fails(task), "command": _request(details).again(), "log": log, "url": link}


def most_urgent_first(models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the models by last outcome: failed, held, without data, then all others; by name within each."""

    def order(model: ModelRecord) -> tuple[int, str]:
        outcome = model.last.outcome if model.last else ""
        return URGENT.index(outcome) if outcome in URGENT else len(URGENT), model.name

    return sorted(models, key=order)


def _notable(reason: Reason) -> bool:
    """Return whether a finding that held nothing is notable: a warning, an anomaly, undecided, or not measurable."""
    anomaly = reason.check == "schema" and not reason.severity
    return reason.severity == "warning" or reason.undecided or reason.figure is None or anomaly
