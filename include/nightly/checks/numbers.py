"""Numbers of another magnitude: far outside the control's range, or all in another unit."""

from collections.abc import Iterator

import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.checks.evidence import Compared, Evidence
from nightly.checks.findings import finding, worst
from nightly.records.night import Contribution, Reason


def extremes(evidence: Evidence) -> Iterator[Reason]:
    """Compare the largest absolute value with the control's. A few rows in another unit show here first."""
    for feature, now in _numeric(evidence):
        findings = []
        for compared, before in _controls(evidence, feature):
            size, control = max(abs(now.min), abs(now.max)), max(abs(before.min), abs(before.max))
            if not control:
                continue
            allowed = evidence.allowed("max_range_factor", compared.control)
            extreme = now.max if abs(now.max) == size else now.min
            findings.append(
                finding(
                    *("max_range_factor", feature, size / control, allowed),
                    f"{feature} goes to {extreme:g}, {size / control:.3g} times as far as in {compared.control.title} "
                    f"({before.min:g} to {before.max:g})",
                    limit=f"{allowed:g} times is allowed",
                    action=f"Look whether some rows give {feature} in another unit.",
                    control=compared.control.name,
                    values=[Contribution(value=f"{extreme:g}", rows=1, share=1 / now.common_stats.num_non_missing)],
                    rows=lambda feature=feature, limit=allowed * control: evidence.rows.examples(
                        feature, lambda array: pc.greater(pc.abs(array), limit)
                    ),
                )
            )
        yield from worst(findings)


def scale(evidence: Evidence) -> Iterator[Reason]:
    """Compare the median with the control's, up or down. A changed unit shows here."""
    for feature, now in _numeric(evidence):
        findings = []
        for compared, before in _controls(evidence, feature):
            if not now.median or not before.median:
                continue  # a median of 0 has no ratio; drift measures the share of zeros
            ratio = abs(now.median / before.median)
            factor, allowed = max(ratio, 1 / ratio), evidence.allowed("max_scale_factor", compared.control)
            findings.append(
                finding(
                    *("max_scale_factor", feature, factor, allowed),
                    f"the median of {feature} is {now.median:g}, {before.median:g} in {compared.control.title}: "
                    f"{factor:.3g} times {'more' if ratio >= 1 else 'less'}",
                    limit=f"{allowed:g} times is allowed",
                    action=f"Look whether the unit of {feature} has changed.",
                    **evidence.beside(compared),
                )
            )
        yield from worst(findings)


def _numeric(evidence: Evidence) -> Iterator[tuple[str, statistics_pb2.NumericStatistics]]:
    """Yield the features that have numbers, with their statistics."""
    for feature, stats in evidence.train.features.items():
        if stats.HasField("num_stats") and stats.num_stats.common_stats.num_non_missing:
            yield feature, stats.num_stats


def _controls(evidence: Evidence, feature: str) -> Iterator[tuple[Compared, statistics_pb2.NumericStatistics]]:
    """Yield the controls in which `feature` has numbers too, with their statistics."""
    for compared in evidence.present:
        before = compared.train.features.get(feature)
        if before is not None and before.HasField("num_stats") and before.num_stats.common_stats.num_non_missing:
            yield compared, before.num_stats
