"""A verdict as a person reads it: a table in the log, the rendered text of the task, the run's note."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from include.contracts.night import Reason
from include.contracts.verdict import Outcome, Verdict

WIDTH = 110  # characters; what the UI shows of a rendered text on a laptop
NOTE_LIMIT = 1000  # characters; what Airflow's database keeps of a note
SIGNS = {Outcome.RELEASED: "🟢", Outcome.ACCEPTED: "🔵", Outcome.NO_DATA: "⚪", Outcome.FAILED: "🔴"}


def headline(verdict: Verdict) -> str:
    """One line: the outcome, and what a person on call can act on."""
    return f"{SIGNS.get(verdict.outcome, '🟠')} {verdict.outcome}: {verdict.summary}"


def table(reasons: Sequence[Reason]) -> str:
    """A line for each finding, those that hold first, and below it what it says where the figures do not."""
    if not reasons:
        return "no findings"
    reasons = sorted(reasons, key=lambda reason: not reason.held)
    rows = [("", "check", "subject", "figure", "threshold"), *(_row(reason) for reason in reasons)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    header, *lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    text = [header]
    for reason, line in zip(reasons, lines, strict=True):
        text.append(line)
        if reason.held or reason.figure is None:
            said = f"{reason.message}. {reason.action}" if reason.held and reason.action else reason.message
            text += _wrapped(said, indent=6)
    return "\n".join(text)


def report(verdict: Verdict) -> str:
    """The whole verdict as plain text."""
    facts = {
        "model": verdict.model,
        "run": verdict.run_id,
        "as of": f"{verdict.as_of:%Y-%m-%d %H:%M %Z}" if verdict.as_of else "",
        "snapshot": f"{verdict.snapshot_id[:12]}, {verdict.rows:,} rows" if verdict.rows else "",
        "version": verdict.version,
        "in production": verdict.production_version or "nothing yet",
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in sorted(verdict.metrics.items())),
        "reused": "; ".join(f"{', '.join(tasks)} of {run}" for run, tasks in verdict.reused_runs.items()),
        "overridden": f"thresholds of this run, because: {verdict.override_reason}" if verdict.override_reason else "",
        "schema": verdict.schema_note,
        "failed task": verdict.failed_task,
        "error": verdict.error,
    }
    lines = [*_wrapped(headline(verdict), indent=0), ""]
    lines += [line for name, value in facts.items() if value for line in _fact(name, str(value))]
    return "\n".join([*lines, "", table(verdict.reasons)] if verdict.reasons else lines)


def note(verdict: Verdict) -> str:
    """The verdict as Markdown, as much as a run's note holds."""
    text = f"**{textwrap.shorten(headline(verdict), 500, placeholder=' …')}**"
    held = [reason for reason in verdict.reasons if reason.held]
    for position, reason in enumerate(held if len(held) > 1 else []):  # a single one is the headline
        subject = f" `{reason.subject}`" if reason.subject else ""
        line = textwrap.shorten(f"- {reason.check}{subject}: {reason.message}", 250, placeholder=" …")
        if len(text) + len(line) > NOTE_LIMIT - 60:
            return f"{text}\n- … and {len(held) - position} more, in the verdict task"
        text += f"\n{line}"
    return text


def _row(reason: Reason) -> tuple[str, ...]:
    held = "HELD" if reason.held else "ok" if reason.figure is not None else "-"
    return held, reason.check, reason.subject, figure(reason.figure), figure(reason.threshold)


def _fact(name: str, value: str) -> list[str]:
    first, *rest = _wrapped(value, indent=14) or [""]
    return [f"{name:<14}{first[14:]}", *rest]


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)


def figure(value: float | str | None) -> str:
    """As a person reads it."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
