"""Check that the label is recorded, has both classes, and keeps its balance, overall and for each value."""

from collections.abc import Iterator

from nightly.checks.evidence import CONTRIBUTIONS, Evidence, finding, not_measured, worst
from nightly.records.night import Contribution, Reason


def recorded(evidence: Evidence) -> Iterator[Reason]:
    label, manifest = evidence.config.data.label, evidence.manifest
    if label.column not in manifest.columns:
        yield Reason(
            check="label",
            subject=label.column,
            figure="missing",
            threshold="present",
            held=True,
            severity="error",
            message=f"the label {label.column} is gone: the data has no such column",
            action="Nothing can be trained without it. Ask the source's owner, or configure another label.",
        )
        return
    labelled, positive = _counts(manifest.label_counts, label.positive)
    share = labelled / manifest.rows if manifest.rows else 0.0
    min_share = evidence.gate.min_label_share
    state = "gone: not one row has it" if not labelled else f"recorded in {share:.1%} of the rows"
    yield finding(
        *("min_label_share", label.column, share, min_share),
        f"the label {label.column} is {state}; at least {min_share:.0%} are required",
        action="The source may have stopped recording it: train on an earlier as-of date, or configure another label.",
        rows=lambda: evidence.rows.missing(label.column),
    )
    if labelled and positive in (0, labelled):
        values = ", ".join(sorted(value for value in manifest.label_counts if value)[:5])
        yield Reason(
            check="constant_label",
            subject=label.column,
            figure=f"{positive / labelled:.0%} positive",
            threshold="both classes",
            held=True,
            severity="error",
            message=f"every recorded {label.column} is {'positive' if positive else 'negative'}: nothing to learn",
            action=f"Positive are configured as {', '.join(label.positive)}; found: {values}.",
        )


def balance(evidence: Evidence) -> Iterator[Reason]:
    label = evidence.config.data.label
    labelled, positive = _counts(evidence.manifest.label_counts, label.positive)
    if not labelled:
        return
    share, findings = positive / labelled, []
    for compared in evidence.present:
        before, positive_before = _counts(compared.control.baseline.label_counts, label.positive)
        if before:
            control, allowed = positive_before / before, evidence.allowed("max_label_change", compared.control)
            findings.append(
                finding(
                    *("max_label_change", label.column, abs(share - control), allowed),
                    f"{share:.1%} of {label.column} are positive, {control:.1%} in {compared.control.title}: "
                    f"a change of {abs(share - control):.1%}; {allowed:.1%} is allowed",
                    action="Look whether the label is still recorded in the same way; if so, the world has changed.",
                    control=compared.control.name,
                    sample=min(labelled, before),
                    enough=evidence.gate.min_rows_for_distance,
                    values=[Contribution(value=", ".join(label.positive), rows=positive, share=share, control=control)],
                )
            )
    yield from worst(findings) or [
        not_measured("max_label_change", "there is no control whose labels are known", subject=label.column)
    ]


def balance_by_value(evidence: Evidence) -> Iterator[Reason]:
    """Yield for each feature the values whose label balance changed most, such as a label flipped for one company."""
    enough = evidence.gate.min_rows_for_value
    for feature, values in evidence.label_by_value.items():
        findings = []
        for compared in evidence.present:
            before = compared.control.baseline.label_by_value.get(feature, {})
            changes = [
                (abs(positive / rows - before[value][1] / before[value][0]), value)
                for value, (rows, positive) in values.items()
                if rows >= enough and before.get(value, (0, 0))[0] >= enough
            ]
            if not changes:
                continue
            changes.sort(reverse=True)
            figure, most = changes[0]
            rows, positive = values[most]
            findings.append(
                finding(
                    *(
                        "max_label_change_by_value",
                        feature,
                        figure,
                        evidence.allowed("max_label_change_by_value", compared.control),
                    ),
                    f"where {feature} is {most}, {positive / rows:.1%} of the labels are positive, "
                    f"{before[most][1] / before[most][0]:.1%} in {compared.control.title}",
                    action=f"Look how the label is recorded where {feature} is {most}.",
                    control=compared.control.name,
                    values=[
                        Contribution(
                            value=value,
                            rows=values[value][0],
                            share=values[value][1] / values[value][0],
                            control=before[value][1] / before[value][0],
                        )
                        for _, value in changes[:CONTRIBUTIONS]
                    ],
                    rows=lambda most=most, feature=feature: evidence.rows.having(feature, [most]),
                )
            )
        yield from worst(findings)


def _counts(label_counts: dict[str, int], positive: list[str]) -> tuple[int, int]:
    """Return the numbers of labelled and of positive rows."""
    known = {value: rows for value, rows in label_counts.items() if value}
    return sum(known.values()), sum(rows for value, rows in known.items() if value in positive)
