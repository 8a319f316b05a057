"""The config.toml of a new model, as text with comments."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nightly.new_model import gates
from nightly.new_model.history import History
from nightly.new_model.proposal import Proposal
from nightly.training.tabular.recommended import Recommended

WIDTH = 120


def config_text(proposal: Proposal, history: History, training: Recommended) -> str:
    """Return the config's text. It is valid TOML, and a valid config if the proposal is."""
    table = proposal.table
    lines = [
        *_comment(f"Written by bin/new from {proposal.origin}: {table.rows:,} rows, {len(table.columns)} columns."),
        *_comment("Every key is in docs/reference/config.md. Check the comments that begin with a question mark."),
        f"description = {_toml(f'Predicts {proposal.label.column}.')}",
        "",
        "[source]",
        *(f"{key} = {_toml(value)}" for key, value in proposal.source.items() if key != "changed_at"),
        *_reread(proposal),
        *_ended(proposal),
        "",
        "[schedule]",
        *_line("cron", "0 3 * * *", "every night at three"),
        *_line("timezone", "UTC", ""),
        "",
        *_data(proposal),
        "",
        *_label(proposal),
        "",
        *_data_gate(proposal, history),
        "",
        *_model_gate(proposal),
        "",
        *_training(training),
    ]
    return "\n".join(lines) + "\n"


def _reread(proposal: Proposal) -> Iterator[str]:
    if changed_at := proposal.source.get("changed_at"):
        yield from _comment("? By its name, this column says when a row last changed: a night reads only the days in")
        yield from _comment("which it differs. Remove the line if a row can change and the column does not increase.")
        yield f"changed_at = {_toml(changed_at)}"
    elif proposal.source["kind"] == "sql" and proposal.window:
        yield from _comment("? Every night reads its whole window again. It reads less with one of these: the column")
        yield from _comment("that says when a row last changed, or the days after which rows do not change any more.")
        yield '# changed_at = "COLUMN"'
        yield "# settled_days = 14"


def _ended(proposal: Proposal) -> Iterator[str]:
    if proposal.window and proposal.window.ended_on:
        yield from _comment("? The data seems to have ended: a night without a date runs as of this day. Remove the")
        yield from _comment("line once more rows arrive.")
        yield f"ended_on = {proposal.window.ended_on}"


def _data(proposal: Proposal) -> Iterator[str]:
    roles, time, window = proposal.roles, proposal.time, proposal.window
    yield "[data]"
    yield from _line("id_columns", roles.ids, roles.id_reason)
    if gates.keeps_equal_rows(proposal):
        equal = f"? {gates.duplicate_share(proposal):.1%} of the rows are equal to another in all columns"
        yield from _line("equal_rows", "keep", f'{equal}; "drop" keeps one of them')
    if time and window:
        span = f"{time.first:%Y-%m-%d} to {time.last:%Y-%m-%d}"
        yield from _line("time_column", time.column, span)
        yield f"time_format = {_toml(time.format)}"
    else:
        yield from _line("time_column", "", "no column says when a row happened, so every night reads all rows")
    if proposal.weight:
        yield f"weight_column = {_toml(proposal.weight)}"
    if proposal.table.rename:
        yield from _comment("Headers that are no valid name, or the name of another column.")
        pairs = ", ".join(f"{_toml(header)} = {_toml(name)}" for header, name in proposal.table.rename.items())
        yield f"rename = {{ {pairs} }}"
    for doubt in proposal.doubts:
        yield from _comment(f"? {doubt}")
    if roles.ignored:
        yield "ignore = ["
        for name, reason in roles.ignored.items():
            yield from _comment(f"{name}: {reason}", indent="    ")
            yield f"    {_toml(name)},"
        yield "]"
    else:
        yield "ignore = []"
    if time and window:
        yield from _comment(f"{window.why[0].upper()}{window.why[1:]}: about {window.rows:,} rows.")
        yield f"look_back_days = {window.look_back_days}"
        yield from _line("late_days", 0, "? how many days late may rows arrive?")
        if window.is_series:
            why = "no two rows have the same time: in a series a row's neighbours would give it away"
            yield from _line("eval", "newest", why)
        else:
            yield from _line(
                "eval", "hash", '? "newest" holds out the newest days, which is harder if the world changes'
            )
    yield "eval_percent = 20"


def _label(proposal: Proposal) -> Iterator[str]:
    label = proposal.label
    yield "[data.label]"
    yield from _comment(f"{label.column}, {proposal.label_why}; {label.why}")
    yield f"kind = {_toml(label.kind)}"
    yield f"column = {_toml(label.column)}"
    if label.kind == "binary":
        yield f"positive = {_toml(list(label.positive))}"
    elif label.kind == "classes":
        yield f"classes = {_toml(label.classes)}"
    else:
        yield f"transform = {_toml(label.transform)}"


def _data_gate(proposal: Proposal, history: History) -> Iterator[str]:
    yield "[data_gate]"
    if history.measured:
        text = f"Thresholds are {history.measured}: the largest distance times 1.5, and half of the default or more."
        yield from _comment(f"{text} Other keys have defaults, or the rule in their comment.")
    else:
        yield from _comment(
            f"Thresholds are wide defaults, since there is too little history: {history.missing}. After some nights, "
            f"`bin/replay {proposal.name} --suggest` has better ones."
        )
    for key, value in gates.data_gate(proposal, history).items():
        yield from _line(key, value.value, value.comment)


def _model_gate(proposal: Proposal) -> Iterator[str]:
    bounds, slices = gates.metrics(proposal), gates.slices(proposal)
    yield "[model_gate]"
    yield from _line("must_beat_constant", True, "a first model is held only if it is no better than a constant answer")
    yield from _line("slices", slices, "metrics are measured for each value, too" if slices else "")
    for metric, values in bounds.items():
        yield ""
        yield f"[model_gate.metrics.{metric}]"
        for key, value in values.items():
            yield from _line(key, value.value, value.comment)


def _training(training: Recommended) -> Iterator[str]:
    yield "[training]"
    yield from _line("steps", training.steps, training.comments.get("steps", ""))
    yield from _line("batch_size", training.batch_size, training.comments.get("batch_size", ""))
    yield ""
    yield "[training.hyperparameters]"
    for key, value in training.hyperparameters.items():
        yield from _line(key, value, training.comments.get(key, ""))


def _line(key: str, value: Any, comment: str) -> Iterable[str]:
    """Return `key = value` with its comment behind it, or above it if the line would be too long."""
    assignment = f"{key} = {_toml(value)}"
    if not comment:
        return [assignment]
    line = f"{assignment} # {comment}"
    return [line] if len(line) <= WIDTH else [*_comment(comment), assignment]


def _comment(text: str, indent: str = "") -> list[str]:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return textwrap.wrap(plain, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _toml(value: Any) -> str:
    """Return a value in TOML, whose strings, numbers and lists are those of JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
