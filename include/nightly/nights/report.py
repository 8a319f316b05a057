"""The text of a verdict: a table in the log, the rendered text of the task, the run's note."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from nightly.io.tables import aligned
from nightly.nights.causes import Cause, causes
from nightly.records.metrics import is_of_class
from nightly.records.night import Reason
from nightly.records.verdict import Outcome, Verdict

WIDTH = 110  # characters of a rendered text that fit in the UI on a laptop
NOTE_LIMIT = 1000  # characters of a note that Airflow's database keeps
# Plain text, which every font has.
SIGNS = {
    Outcome.RELEASED: "✓",
    Outcome.ACCEPTED: "○",
    Outcome.HELD_DATA: "!",
    Outcome.HELD_MODEL: "!",
    Outcome.NO_DATA: "–",
    Outcome.FAILED: "✕",
}


def headline(verdict: Verdict) -> str:
    """Return one line: the outcome and the summary."""
    return f"{SIGNS[verdict.outcome]} {verdict.outcome}: {verdict.summary}"


def table(reasons: Sequence[Reason]) -> str:
    """Return a line for each finding, those that hold first, with the message where the values do not explain it."""
    if not reasons:
        return "no findings"
    reasons = sorted(reasons, key=lambda reason: not reason.held)
    rows = [("", "check", "subject", "against", "value", "threshold"), *(_row(reason) for reason in reasons)]
    header, *lines = aligned(rows)
    text = [header]
    for reason, line in zip(reasons, lines, strict=True):
        text.append(line)
        if reason.held or reason.undecided or reason.figure is None:
            message = f"{reason.message}. {reason.action}" if reason.held and reason.action else reason.message
            text += _wrapped(message, indent=6)
    return "\n".join(text)


def report(verdict: Verdict) -> str:
    """Return the verdict as plain text: its facts, each cause that held it, and the number of other findings."""
    facts = {
        "model": verdict.model,
        "run": verdict.run_id,
        "as of": f"{verdict.as_of:%Y-%m-%d %H:%M %Z}" if verdict.as_of else "",
        "snapshot": f"{verdict.snapshot_id[:12]}, {verdict.rows:,} rows" if verdict.rows else "",
        "revised": verdict.revised,
        "version": verdict.version,
        "in production": verdict.production_version or "nothing yet",
        "damage": verdict.damage,
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in of_all_classes(verdict.metrics).items()),
        "reused": "; ".join(f"{', '.join(tasks)} of {run}" for run, tasks in verdict.reused_runs.items()),
        "overridden": f"thresholds of this run, because: {verdict.override_reason}" if verdict.override_reason else "",
        "schema": verdict.schema_note,
        "failed task": verdict.failed_task,
        "error": verdict.error,
    }
    lines = [*_wrapped(headline(verdict), indent=0), ""]
    lines += [line for name, value in facts.items() if value for line in _fact(name, str(value))]
    for cause in causes(verdict.reasons):
        lines += ["", *_cause(cause)]
    lines += ["", rest] if (rest := others(verdict.reasons)) else []
    return "\n".join(lines)


def of_all_classes(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics that are not of a single class, by name."""
    return {name: value for name, value in sorted(metrics.items()) if not is_of_class(name)}


def others(reasons: Iterable[Reason]) -> str:
    """Return one line that counts the findings that did not hold the night; "" if there are none."""
    rest = [reason for reason in reasons if not reason.held]
    unmeasured = sum(reason.figure is None for reason in rest)
    undecided = sum(reason.undecided for reason in rest)
    warnings = sum(
        reason.severity == "warning" and reason.figure is not None and not reason.undecided for reason in rest
    )
    if not rest:
        return ""
    counts = [f"{len(rest) - unmeasured - undecided - warnings} other checks are ok"]
    counts += [f"{undecided} could not be decided on so few examples"] if undecided else []
    counts += [f"{warnings} have a warning"] if warnings else []
    counts += [f"{unmeasured} could not be measured"] if unmeasured else []
    return ", ".join(counts)


def against(reason: Reason) -> str:
    """Return the name of the control that a finding was measured against."""
    return reason.control.replace("_", " ")


def note(verdict: Verdict) -> str:
    """Return the verdict as Markdown, cut to the length of a run's note."""
    text = f"**{textwrap.shorten(headline(verdict), 500, placeholder=' …')}**"
    if verdict.damage and verdict.outcome is not Outcome.HELD_MODEL:  # a held model's summary may name the damage
        text += f"\n- {textwrap.shorten(verdict.damage, 250, placeholder=' …')}"
    if verdict.revised:
        text += f"\n- {textwrap.shorten(verdict.revised, 250, placeholder=' …')}"
    grouped = causes(verdict.reasons)
    for position, cause in enumerate(grouped if len(grouped) > 2 else []):  # the headline has one or two in full
        line = textwrap.shorten(f"- {cause.headline}", 250, placeholder=" …")
        if len(text) + len(line) > NOTE_LIMIT - 60:
            return f"{text}\n- … and {len(grouped) - position} more, in the verdict task"
        text += f"\n{line}"
    return text


def evidence(cause: Cause) -> list[str]:
    """Return a line for each finding of the cause: its check and control, its value and its threshold."""
    return aligned([(_check(r), _value(r.figure), f"threshold {_value(r.threshold)}") for r in cause.reasons])


def _cause(cause: Cause) -> list[str]:
    return [
        *_wrapped(cause.headline, indent=0),
        *(f"  {line}" for line in evidence(cause)),
        *_wrapped(cause.action and f"What to do: {cause.action}", indent=2),
    ]


def _check(reason: Reason) -> str:
    """Return the check's name with its subject and its control."""
    subject = f" of {reason.subject}" if reason.subject else ""
    return f"{reason.check}{subject}" + (f", against {against(reason)}" if reason.control else "")


def _row(reason: Reason) -> tuple[str, ...]:
    state = "HELD" if reason.held else "?" if reason.undecided else "ok" if reason.figure is not None else "-"
    return state, reason.check, reason.subject, against(reason), _value(reason.figure), _value(reason.threshold)


def _fact(name: str, value: str) -> list[str]:
    first, *rest = _wrapped(value, indent=14) or [""]
    return [f"{name:<14}{first[14:]}", *rest]


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _value(value: float | str | None) -> str:
    """Format a value or threshold."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
