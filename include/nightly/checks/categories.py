"""Unseen values: neither the control nor the schema's domain has them."""

from collections.abc import Iterator

from nightly.checks.evidence import Evidence
from nightly.checks.findings import CONTRIBUTIONS, finding, worst
from nightly.checks.schema import counts, domain_of, values_in
from nightly.records.night import Contribution, Reason

KEPT = 1000  # TFDV keeps this many values of a feature, so a control with more may have had any other value


def unseen(evidence: Evidence) -> Iterator[Reason]:
    """Measure the share of examples whose value no control has, for each text feature."""
    for feature, stats in evidence.train.features.items():
        if not stats.HasField("string_stats"):
            continue
        now, total, findings = counts(stats), max(values_in(stats), 1), []
        what = "examples" if total <= evidence.train.examples else "values"
        for compared in evidence.present:
            before = compared.train.features.get(feature)
            if before is None or not before.HasField("string_stats") or before.string_stats.unique > KEPT:
                continue
            known = counts(before).keys() | (domain_of(evidence, feature) or set())
            new = {value: rows for value, rows in now.items() if value not in known}
            most = sorted(new, key=lambda value: (-new[value], value))[:CONTRIBUTIONS]
            share, allowed = sum(new.values()) / total, evidence.allowed("max_unseen_share", compared.control)
            named = ", ".join(f"{value!r} ({new[value]:,})" for value in most)
            findings.append(
                finding(
                    *("max_unseen_share", feature, share, allowed),
                    f"{sum(new.values()):,} {what} ({share:.1%}) have one of {len(new):,} values of {feature} that "
                    f"{compared.control.title} has not",
                    limit=f"{allowed:.1%} are allowed",
                    more=f": {named}" if named else "",
                    action="Look whether values were renamed, split or merged; if so, mend the source or the schema.",
                    **evidence.beside(compared),
                    values=[Contribution(value=value, rows=new[value], share=new[value] / total) for value in most],
                    rows=lambda feature=feature, most=most: evidence.rows.having(feature, most),
                )
            )
        yield from worst(findings)
