"""Why a night was held: its findings grouped by cause, each cause with one action."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nightly.nights import older_findings
from nightly.nights.moves import moved, renamed
from nightly.records import metrics
from nightly.records.night import ALL_EXAMPLES, Contribution, Reason

Kind = Literal["delivery", "feature", "serving", "model", "withdrawn"]
# The endings of checks of the whole delivery, even if their subject is the time column.
DELIVERY = ("truncated", "_days", "_week_share", "min_rows", "_rows_factor", "_rejected_share", "_duplicate_share")
FEATURE = (
    "min_",
    "max_",
    "constant_",
    "label",
    "weights",
)  # the beginnings of checks of one feature, besides DISTANCES
DISTANCES = ("schema", "drift", "skew")
LABELS = ("max_label_change", "max_label_change_by_value")  # their shares are those of the label that changed most
# The best explanation of a feature first. Other checks are explained by their values, or by their own message.
EXPLAINS = ("constant_feature", "max_scale_factor", "max_missing_change", *LABELS)
SCHEMA = {  # TFDV's short description -> what happened, and what to do
    "Column dropped": (
        "the column is gone",
        "Ask the source's owner for it. If it is gone for good, remove it from the schema and the model.",
    ),
    "New column": (
        "a new column, which the schema does not know",
        "Approve the proposed change of the schema to keep the column, or name it in data.ignore to leave it out.",
    ),
}
DETAILED = (
    "schema",
    "label",
    "weights",
    "max_label_change_by_value",
)  # their messages have more than a value and its threshold
RENAMED = "Ask the source's owner whether the value has a new name. Fix the source, or adopt the new name."
METRICS = frozenset(name for names in (*metrics.NAMES.values(), *metrics.OF_CLASSES.values()) for name in names)


@dataclass(frozen=True)
class Cause:
    """Findings with the same cause: a feature, the whole delivery, the clients that send a feature, or the model."""

    kind: Kind
    subject: str  # the feature; "" for the delivery and the model
    headline: str  # what happened, as part of a sentence
    action: str
    reasons: list[Reason]

    @property
    def title(self) -> str:
        """The subject, as the title of a section."""
        return {
            "delivery": "The delivery",
            "model": "The model",
            "serving": f"Requests: {self.subject}",
        }.get(self.kind, self.subject)

    @property
    def values(self) -> list[Contribution]:
        """The values that contribute to a change of shares, each once, the largest change first."""
        return shares(self.reasons)

    @property
    def labels(self) -> list[Contribution]:
        """Values whose labels have changed: the shares are those of `changed_label`."""
        return [value for reason in self.reasons if reason.check == LABELS[1] for value in reason.values]

    @property
    def changed_label(self) -> str:
        """The label that changed most where a feature has some value, such as "positive" or "'Cash'"."""
        return next((_label(reason) for reason in self.reasons if reason.check == LABELS[1]), "")

    def adds(self, reason: Reason) -> bool:
        """Return whether the message of `reason` has more than the headline and the values."""
        if self.kind in ("feature", "serving") and (reason.check not in DETAILED or reason.figure in SCHEMA):
            return False
        if (self.kind == "model" and reason.figure is not None) or (reason.check == "schema" and reason.values):
            return False
        return _sentence(self.kind, reason) not in self.headline

    @property
    def rows(self) -> list[str]:
        """References to example rows, each once."""
        return list(dict.fromkeys(row for reason in self.reasons for row in reason.rows))


def causes(reasons: Iterable[Reason]) -> list[Cause]:
    """Group the findings that held a night by cause.

    The delivery comes first, since the rest may follow from it; then the cause furthest beyond its threshold.
    """
    groups: dict[tuple[Kind, str], list[Reason]] = {}
    for reason in reasons:
        if reason.held:
            groups.setdefault(_key(reason), []).append(reason)
    grouped = [_cause(kind, subject, held) for (kind, subject), held in groups.items()]
    return sorted(grouped, key=lambda cause: (cause.kind != "delivery", -max(map(_excess, cause.reasons))))


def headline(grouped: Sequence[Cause]) -> str:
    """Return why a night was held, as one sentence without its full stop."""
    if len(grouped) <= 2:
        return "; ".join(cause.headline for cause in grouped)
    others = [cause.title if cause.kind == "feature" else cause.title.lower() for cause in grouped[1:]]
    named = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    return f"{grouped[0].headline}; and {len(others)} more causes: {named}"


def shares(reasons: Iterable[Reason]) -> list[Contribution]:
    """Return the values of several findings, each once, with the control's share if any finding has it."""
    by_value: dict[str, Contribution] = {}
    for reason in reasons:
        for value in reason.values if reason.check not in LABELS else []:
            if value.value not in by_value or (by_value[value.value].control is None and value.control is not None):
                by_value[value.value] = value
    return sorted(by_value.values(), key=lambda value: -abs(value.share - (value.control or 0.0)))


def _key(reason: Reason) -> tuple[Kind, str]:
    if reason.check == "withdrawn":
        return "withdrawn", reason.subject
    if reason.control == "serving":
        return "serving", reason.subject
    metric = metrics.listed_name(reason.metric.partition(":")[0])
    if metric in METRICS:  # before the rest: `max_recall` is no check of a feature
        return "model", ""
    if not reason.subject or reason.check.endswith(DELIVERY):
        return "delivery", ""
    if reason.check.startswith(FEATURE) or reason.check in DISTANCES:
        return "feature", reason.subject
    return "model", ""


def _cause(kind: Kind, subject: str, reasons: list[Reason]) -> Cause:
    lead = min(reasons, key=_explains)
    text = _headline(kind, subject, lead, reasons)
    if kind == "model" and len(reasons) > 1:
        text += f"; {len(reasons)} of its metrics are " + (
            "undecided" if all(reason.undecided for reason in reasons) else "not good enough"
        )
    action = lead.action or next((reason.action for reason in reasons if reason.action), "")
    if lead.check == "schema" and lead.figure in SCHEMA:
        action = SCHEMA[lead.figure][1]
    elif _by_values(kind, lead) and renamed(shares(reasons)):
        action = RENAMED
    return Cause(kind, subject, text, action, reasons)


def _headline(kind: Kind, subject: str, lead: Reason, reasons: list[Reason]) -> str:
    if lead.check == "schema" and lead.figure in SCHEMA:
        return f"{subject}: {SCHEMA[lead.figure][0]}"
    if _by_values(kind, lead) and (change := moved(shares(reasons))):
        return f"{subject}{' in requests' if kind == 'serving' else ''}: {change}"
    return _sentence(kind, lead)


def _sentence(kind: Kind, reason: Reason) -> str:
    """Return a finding as part of a sentence; of the model with its bound, without which a metric means nothing."""
    if kind == "model":
        return reason.message.replace("; ", ", ")
    return reason.headline or older_findings.headline(reason)


def _label(reason: Reason) -> str:
    return reason.label or older_findings.label(reason)


def _by_values(kind: Kind, lead: Reason) -> bool:
    """Return whether the changed values are the best explanation of the cause."""
    return kind in ("feature", "serving") and lead.check not in EXPLAINS


def _explains(reason: Reason) -> tuple[int, float]:
    """Return a sort key, smallest for the finding that explains best what happened."""
    if reason.check == "schema" and reason.figure in SCHEMA:
        return -1, 0.0
    rank = EXPLAINS.index(reason.check) if reason.check in EXPLAINS else len(EXPLAINS)
    rank += reason.check not in ("schema", "max_unseen_share")  # these have an action for a value, a distance has none
    is_part = reason.subject not in ("", ALL_EXAMPLES) or metrics.is_of_class(reason.check)
    change = reason.is_change  # an absolute bound explains more: a bad model is worse than production anyway
    return rank + (is_part + change + 2 * reason.undecided if _key(reason)[0] == "model" else 0), -_excess(reason)


def _excess(reason: Reason) -> float:
    """Return the ratio of value and threshold, at least 1; infinite for a finding without a number."""
    if not isinstance(reason.figure, (int, float)) or not isinstance(reason.threshold, (int, float)):
        return math.inf
    low, high = sorted((abs(reason.figure), abs(reason.threshold)))
    return high / low if low else math.inf
