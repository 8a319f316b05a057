"""Check that the label is recorded, can be learned, and keeps its distribution, overall and for each value."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from nightly.checks.evidence import Evidence
from nightly.checks.findings import CONTRIBUTIONS, chance_of_change, fault, finding, not_measured, worst
from nightly.examples.days import rows_by_day
from nightly.nights.moves import label_change
from nightly.records.baseline import Control
from nightly.records.label_config import BinaryLabel
from nightly.records.label_spec import POSITIVE, LabelSummary
from nightly.records.night import Contribution, Reason

LATE = 0.1  # of the usual share of labels; days with less count as days without labels
EXPECTED = 10  # labels; where fewer are usual, there may be none by chance


def recorded(evidence: Evidence) -> Iterator[Reason]:
    label, manifest = evidence.config.data.label, evidence.manifest
    if label.column not in manifest.columns:
        yield fault(
            *("label", label.column, f"the label {label.column} is gone: the data has no such column"),
            figure="missing",
            threshold="present",
            action="Nothing can be trained without it. Ask the source's owner, or configure another label.",
        )
        return
    labelled = evidence.label.rows
    share = labelled / manifest.rows if manifest.rows else 0.0
    min_share = evidence.gate.min_label_share
    state = "gone: not one row has it" if not labelled else f"recorded in {share:.1%} of the rows"
    late = _late(evidence) if labelled < manifest.rows else None
    since = f"not one of the {late[1]:,} rows since {late[0]} has it" if late else ""
    if late and late[2]:
        since = f"only {late[2]:,} of the {late[1]:,} rows since {late[0]} have it"
    yield finding(
        *("min_label_share", label.column, share, min_share),
        f"the label {label.column} is {state}",
        limit=f"at least {min_share:.0%} are required",
        more=(f"; {since}" if since else "") + _outside(evidence),
        action="The source may have stopped recording it: train on an earlier as-of date, or configure another label.",
        rows=lambda: evidence.rows.missing(label.column),
    )
    if late and share >= min_share:
        yield Reason(
            check="label",
            subject=label.column,
            figure=f"late since {late[0]}",
            threshold="recorded every day",
            held=False,
            severity="warning",
            message=f"the label {label.column} stops before the data does: {since}",
            action="If labels are always known that late, set data.late_days; if not, ask the source's owner.",
        )
    if labelled and (only := _only(evidence)):
        yield only


def balance(evidence: Evidence) -> Iterator[Reason]:
    """Yield the largest change of the labels' distribution, against the control where it is furthest beyond."""
    label, now = evidence.config.data.label, evidence.label
    if not now.rows:
        return
    findings = []
    for compared in evidence.present:
        before = compared.control.baseline.summary(label, evidence.classes)
        if before is None or not before.rows:
            continue
        figure, most = _change(evidence, now, before)
        if not most:
            continue  # the label has another type, which label_values.usable reports
        allowed, medians = evidence.allowed("max_label_change", compared.control), _medians(now, before)
        changed = medians or label_change(_named(evidence, most), now.share(most), before.share(most))
        findings.append(
            finding(
                *("max_label_change", label.column, figure, allowed),
                f"{now.share(most):.1%} of {label.column} are {_named(evidence, most)}, "
                f"{before.share(most):.1%} in {compared.control.title}: a change of {figure:.1%}",
                limit=f"{allowed:.1%} is allowed",
                more=f"; {medians}" if medians else "",
                headline=f"{label.column}: {changed}",
                action="Look whether the label is still recorded in the same way; if so, the world has changed.",
                control=compared.control.name,
                sample=min(now.rows, before.rows),
                enough=evidence.gate.min_rows_for_distance,
                values=_shares(evidence, now, before, most),
            )
        )
    yield from worst(findings) or [
        not_measured("max_label_change", "there is no control whose labels are known", subject=label.column)
    ]


def balance_by_value(evidence: Evidence) -> Iterator[Reason]:
    """Yield for each feature the value whose labels changed most, such as a label flipped for one company."""
    label = evidence.config.data.label
    comparable = []
    for compared in evidence.present:
        control, baseline = compared.control, compared.control.baseline
        if baseline.summary(label) is None or baseline.label_kind != label.kind:
            continue  # the control has another label
        if evidence.positive and {*baseline.positive} not in (set(), {*evidence.positive}):  # older versions had none
            why = f"its positive labels are {', '.join(baseline.positive)}, and now {', '.join(evidence.positive)}"
            details = {"subject": label.column, "control": control.name, "title": control.title}
            yield not_measured("max_label_change_by_value", why, **details)
        else:
            comparable.append(compared)
    by_feature: dict[str, list[tuple[Control, Reason]]] = {feature: [] for feature in evidence.label_by_value}
    by_control = [(compared.control, _changes_by_value(evidence, compared.control)) for compared in comparable]
    # Of many values, one or another is far from its control by chance.
    comparisons = sum(len(of_values) for _, changes in by_control for of_values in changes.values())
    for control, changes in by_control:
        for feature, of_values in changes.items():
            largest = _largest_change(evidence, control, feature, of_values, comparisons)
            by_feature[feature].append((control, largest))
    for findings in by_feature.values():
        if findings:
            yield max(findings, key=lambda pair: _rank(pair[1].figure / pair[0].factor, pair[1]))[1]
    unknown = [
        feature
        for feature, values in evidence.label_by_value.items()
        if comparable
        and any(now.rows >= evidence.gate.min_rows_for_value for now in values.values())
        and not any(feature in compared.control.baseline.label_by_value for compared in comparable)
    ]
    if unknown:
        why = f"no control has its counts by value of {', '.join(unknown)}"
        yield not_measured("max_label_change_by_value", why, subject=label.column)


@dataclass(frozen=True)
class _ValueChange:
    """The labels of the rows with one value of a feature, on both sides."""

    value: str
    now: LabelSummary
    before: LabelSummary
    figure: float
    label: str  # what has changed, as LabelSummary.change names it


def _changes_by_value(evidence: Evidence, control: Control) -> dict[str, list[_ValueChange]]:
    """Return feature -> the changes of its values with enough labels on both sides, if there are any."""
    enough, changes = evidence.gate.min_rows_for_value, {}
    for feature, values in evidence.label_by_value.items():
        before = control.baseline.label_by_value.get(feature, {})
        of_values = [
            _ValueChange(value, now, before[value], *_change(evidence, now, before[value]))
            for value, now in values.items()
            if now.rows >= enough and value in before and before[value].rows >= enough
        ]
        if of_values:
            changes[feature] = of_values
    return changes


def _largest_change(
    evidence: Evidence, control: Control, feature: str, changes: list[_ValueChange], comparisons: int
) -> Reason:
    """Return the finding about the largest change that chance does not explain, else about the largest.

    So the threshold that lifts this finding lifts those of the other values.
    """
    allowed = evidence.allowed("max_label_change_by_value", control)

    def chance(change: _ValueChange) -> float:
        return chance_of_change(change.now.rows, change.before.rows, comparisons)

    changes = sorted(changes, key=lambda c: (c.figure > chance(c), c.figure, c.value), reverse=True)
    most = changes[0]
    limit = max(allowed, chance(most))
    return finding(
        *("max_label_change_by_value", feature, most.figure, allowed),
        f"where {feature} is {most.value}, {most.now.share(most.label):.1%} of the labels are "
        f"{_named(evidence, most.label)}, {most.before.share(most.label):.1%} in {control.title}",
        more=f"; {medians}" if (medians := _medians(most.now, most.before)) else "",
        limit=f"a change of {limit:.1%} is allowed" + (", which chance can make" if limit > allowed else ""),
        action=f"Look how the label is recorded where {feature} is {most.value}.",
        control=control.name,
        chance=chance(most),
        values=[
            Contribution(
                value=change.value,
                rows=change.now.rows,
                share=change.now.share(most.label),
                control=change.before.share(most.label),
            )
            for change in changes[:CONTRIBUTIONS]
        ],
        label=_named(evidence, most.label),
        rows=lambda: evidence.rows.having(feature, [most.value]),
    )


def _rank(figure: float, reason: Reason) -> tuple[bool, bool, float]:
    """Return the sort key of a finding: held before others, beyond chance before others, then by its figure.

    :param figure: divided by the factor of the finding's control
    """
    return reason.held, reason.figure > (reason.chance or 0), figure


def _change(evidence: Evidence, now: LabelSummary, before: LabelSummary) -> tuple[float, str]:
    """Return the largest change of a label's share, and that label; of a binary label, always the positive one."""
    figure, most = now.change(before)
    return figure, POSITIVE if evidence.config.data.label.kind == "binary" else most


def _named(evidence: Evidence, most: str) -> str:
    """Return the words for a class, or for a range of numbers."""
    kind = evidence.config.data.label.kind
    return repr(most) if kind == "classes" else most


def _medians(now: LabelSummary, before: LabelSummary) -> str:
    """Return the medians and ranges of numbers; "" for other kinds."""
    if not (now.quantiles and before.quantiles):
        return ""
    middle, low, high = (len(now.quantiles) // 2, 0, -1)
    new, old = ([f"{summary.quantiles[n]:,.6g}" for n in (middle, low, high)] for summary in (now, before))
    return f"its median is {new[0]} (from {new[1]} to {new[2]}), and was {old[0]} (from {old[1]} to {old[2]})"


def _shares(evidence: Evidence, now: LabelSummary, before: LabelSummary, most: str) -> list[Contribution]:
    label = evidence.config.data.label
    if isinstance(label, BinaryLabel):
        names = {POSITIVE: ", ".join(label.positive)}
    elif now.quantiles:
        names = {most: most}
    else:
        changed = {*now.counts, *before.counts}
        ordered = sorted(changed, key=lambda name: (-abs(now.share(name) - before.share(name)), name))
        names = {name: name for name in ordered[:CONTRIBUTIONS]}
    return [
        Contribution(
            value=text,
            rows=round(now.share(name) * now.rows),
            share=now.share(name),
            control=before.share(name),
        )
        for name, text in names.items()
    ]


def _only(evidence: Evidence) -> Reason | None:
    """Return a finding if all recorded labels are the same, so that there is nothing to learn."""
    label, summary = evidence.config.data.label, evidence.label
    values = sorted(value for value in evidence.labels.label_counts if value)
    if isinstance(label, BinaryLabel):
        share = summary.share(POSITIVE)
        if share not in (0.0, 1.0):
            return None
        which, figure, threshold = "positive" if share else "negative", f"{share:.0%} positive", "both classes"
        action = f"Positive are configured as {', '.join(label.positive)}; found: {', '.join(values[:5])}."
    else:
        distinct = [f"{number:,.6g}" for number in {*summary.quantiles}] or [repr(name) for name in summary.counts]
        if len(distinct) != 1:
            return None
        (which,) = distinct
        figure, threshold = which, "two values or more"
        action = "Look whether the source still records it, or writes a default."
    return fault(
        *("constant_label", label.column, f"every recorded {label.column} is {which}: nothing to learn"),
        figure=figure,
        threshold=threshold,
        action=action,
    )


def _outside(evidence: Evidence) -> str:
    """Return a part of a sentence about labels that are not among the schema's classes; "" if there are none."""
    if not evidence.classes:
        return ""
    counts = evidence.labels.label_counts
    outside = {value: rows for value, rows in counts.items() if value and value not in evidence.classes}
    if not outside:
        return ""
    named = ", ".join(f"{value!r} ({rows:,})" for value, rows in _frequent(outside)[:CONTRIBUTIONS])
    return f"; {sum(outside.values()):,} rows have a value that the label's domain lacks: {named}"


def _frequent(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _late(evidence: Evidence) -> tuple[dt.date, int, int] | None:
    """Return since when labels are missing at the end of the window: the day, the rows since, those with a label.

    None if they are not, if chance explains it, or if the rows have no time.
    """
    if not evidence.config.data.time_column:
        return None
    data, usual = evidence.config.data, evidence.label.rows / evidence.manifest.rows
    by_day = rows_by_day(evidence.rows.folder, data.label.column, data.time_column, evidence.classes)
    since, rows, labelled = None, 0, 0
    for day in reversed(by_day):
        if by_day[day].labelled >= LATE * usual * by_day[day].rows:
            break
        since, rows, labelled = day, rows + by_day[day].rows, labelled + by_day[day].labelled
    if since is None or rows * usual < EXPECTED:
        return None
    return since, rows, labelled
