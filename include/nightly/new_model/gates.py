"""The thresholds of a new model's config, each with the rule that it follows."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nightly.new_model.history import MARGIN, History
from nightly.new_model.proposal import Proposal
from nightly.records.data_gate_config import DataGate

ROWS_SHARE = 0.5  # of the rows that there are: with fewer, something is missing
LABEL_SHARE = 0.8  # of the share of rows with a label
DUPLICATES = 0.02  # config.toml's default
METRIC_DROP = 0.02  # of an AUC or accuracy
LOSS_RISE = 0.1  # of the loss that the best constant answer has
SLICE_VALUES = range(2, 9)
SLICE_ROWS = 100  # examples of a slice that is bounded


class Value(NamedTuple):
    """A value of the config, and its comment."""

    value: int | float | str
    comment: str


def data_gate(proposal: Proposal, history: History) -> dict[str, Value]:
    """Return the keys of [data_gate] that differ from their defaults."""
    table, rows = proposal.table, proposal.rows
    label = table.columns[proposal.label.column]
    duplicates = 0.0 if keeps_equal_rows(proposal) else duplicate_share(proposal)
    rows = round(rows * (1 - duplicates))
    values = {"min_rows": Value(max(int(rows * ROWS_SHARE), 1), f"half of the {rows:,} rows that a night has now")}
    if proposal.window:
        values["max_age_days"] = Value(
            proposal.window.max_age_days, "1.5 times the longest time without a row, and a day; 3 or more"
        )
    share = 1 - label.missing_share
    least = 0.95 if share == 1 else math.floor(100 * share * LABEL_SHARE) / 100
    values["min_label_share"] = Value(least, f"{share:.1%} of the rows have a label")
    if table.rejected:
        rejected = table.rejected / (table.rejected + table.rows)
        if rejected * MARGIN > 0.01:
            values["max_rejected_share"] = Value(_up(rejected * MARGIN), f"{rejected:.2%} of the rows cannot be read")
    if duplicates * MARGIN > DUPLICATES:
        values["max_duplicate_share"] = Value(
            min(_up(duplicates * MARGIN), 1.0),
            f"{duplicates:.1%} are the same as another row: a night uses one of them",
        )
    for key, value in sorted(history.thresholds.items()):
        section, _, name = key.partition(".")
        if section == "data_gate" and value != getattr(DataGate(), name):
            values[name] = Value(value, history.measured if name == "min_rows" else "measured")
    return values


def keeps_equal_rows(proposal: Proposal) -> bool:
    """Return whether rows that are equal in all columns count as rows of their own.

    They do in a table without an id that each night reads once and whole. With a time, deliveries may overlap.
    """
    return not proposal.roles.ids and proposal.time is None and duplicate_share(proposal) > 0


def duplicate_share(proposal: Proposal) -> float:
    """Return the share of the sample's rows that have the id of another."""
    table = proposal.table
    names = proposal.roles.ids or [column.name for column in table.columns.values() if column.is_single]
    distinct = table.sample.select(names).group_by(names, use_threads=False).aggregate([]).num_rows
    return 1 - distinct / table.sample.num_rows


def metrics(proposal: Proposal) -> dict[str, dict[str, Value]]:
    """Return the bounds of [model_gate.metrics]."""
    label, column = proposal.label, proposal.table.columns[proposal.label.column]
    if label.kind == "number":
        numbers = column.numbers[~np.isnan(column.numbers)]
        error = float(np.abs(numbers - np.median(numbers)).mean())
        rise = Value(_up(LOSS_RISE * error), f"a tenth of {error:.4g}, the error of the best constant answer")
        return {"mean_absolute_error": {"max_rise": rise}}
    counts = np.array([rows for _, rows in column.counts], float)
    if label.kind == "binary":
        positive = sum(rows for value, rows in column.counts if label.is_positive(value))
        counts = np.array([positive, column.present - positive], float)
    shares = counts[counts > 0] / counts.sum()
    loss = float(-(shares * np.log(shares)).sum())
    names = {"binary": ("auc", "binary_crossentropy"), "classes": ("accuracy", "categorical_crossentropy")}
    higher, lower = names[label.kind]
    return {
        higher: {"max_drop": Value(METRIC_DROP, "default; the gate allows for chance on top")},
        lower: {"max_rise": Value(_up(LOSS_RISE * loss), f"a tenth of {loss:.3g}, the loss of a constant answer")},
    }


def slices(proposal: Proposal) -> list[str]:
    """Return a category of few values, each with examples enough to be judged; [] if there is none."""
    for name in proposal.roles.groups.get("categories", []):
        column = proposal.table.columns[name]
        examples = [rows / column.present * proposal.rows / 5 for _, rows in column.counts]
        if column.distinct in SLICE_VALUES and sum(rows >= SLICE_ROWS for rows in examples) >= 2:
            return [name]
    return []


def thresholds_of_schema(history: History) -> Mapping[str, float]:
    """Return the thresholds of drift and skew."""
    return {key: value for key, value in history.thresholds.items() if not key.startswith("data_gate.")}


def _up(value: float) -> float:
    return float(f"{value:.2g}")
