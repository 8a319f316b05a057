"""Features that are missing more or less often, or constant."""

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.checks.evidence import Compared, Evidence, Measured
from nightly.checks.findings import chance_of_change, finding, worst
from nightly.checks.schema import counts, values_in
from nightly.records.night import Contribution, Reason
from nightly.statistics.sizes import at_least

OTHERS = 10  # expected rows with another value; with fewer, there may be none by chance


def missing(evidence: Evidence) -> Iterator[Reason]:
    for feature in evidence.train.features:
        findings = []
        for compared in evidence.present:
            if feature not in compared.train.features:
                continue
            now, control = missing_share(evidence.train, feature), missing_share(compared.train, feature)
            allowed = evidence.allowed("max_missing_change", compared.control)
            findings.append(
                finding(
                    *("max_missing_change", feature, abs(now - control), allowed),
                    f"{feature} is missing in {now:.1%} of the examples, in {control:.1%} of {compared.control.title}",
                    limit=f"a change of {allowed:.1%} is allowed",
                    action=f"Look why {feature} is {'not recorded' if now > control else 'recorded'} there.",
                    **evidence.beside(compared),
                    rows=lambda feature=feature: evidence.rows.missing(feature),
                )
            )
            findings += _lengths(evidence, compared, feature, allowed)
        yield from worst(findings)


def _lengths(evidence: Evidence, compared: Compared, feature: str, allowed: float) -> Iterator[Reason]:
    """Yield the largest change, over all n, of the share of examples whose list has at least n values.

    Some number is always near the middle, where chance moves shares most. So what chance explains is always allowed.
    """
    sides = [at_least(side.features[feature], side.examples) for side in (evidence.train, compared.train)]
    if not all(sides):
        return
    lengths = sorted({*sides[0], *sides[1]})
    # With n values or more: as many as with the next length that there is.
    shares = {n: [side[min(k for k in side if k >= n)] if n <= max(side) else 0.0 for side in sides] for n in lengths}
    longer = max(lengths, key=lambda n: abs(shares[n][0] - shares[n][1]))
    now, control = shares[longer]
    chance = chance_of_change(evidence.train.examples, compared.train.examples)
    yield finding(
        *("max_missing_change", feature, abs(now - control), allowed),
        f"{now:.1%} of the examples have {longer:,} values of {feature} or more, {control:.1%} of those of "
        f"{compared.control.title}",
        limit=f"a change of {max(allowed, chance):.1%} is allowed",
        chance=chance,
        action=f"Look whether the source cuts the lists of {feature} short, or has ceased to.",
        **evidence.beside(compared),
    )


def constant(evidence: Evidence) -> Iterator[Reason]:
    """Yield each constant feature. It holds the night if a control makes other values likely."""
    for feature, stats in evidence.train.features.items():
        value = constant_value(stats)
        if value is None or feature == evidence.config.data.label.column:
            continue
        varied = [
            compared
            for compared in evidence.present
            if feature in compared.train.features
            and _expected_others(compared.train.features[feature], value, evidence.train.examples) >= OTHERS
        ]
        enough = evidence.train.examples >= evidence.gate.min_rows_for_distance
        message = f"{feature} is {value} in every example that has it"
        if varied:
            message += f", and was not in {varied[0].control.title}"
        yield Reason(
            check="constant_feature",
            subject=feature,
            figure=value,
            threshold="more than one value",
            held=bool(varied) and enough,
            severity="error" if varied and enough else "warning",
            control=varied[0].control.name if varied else "",
            message=message,
            headline=message,
            action=f"A constant tells a model nothing: look whether the source still fills {feature}.",
            values=[Contribution(value=value, rows=int(common(stats).num_non_missing), share=1.0)],
        )


def common(stats: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return getattr(stats, stats.WhichOneof("stats")).common_stats


def constant_value(stats: statistics_pb2.FeatureNameStatistics) -> str | None:
    """Return the feature's only value; None if it has several values or none."""
    if not common(stats).num_non_missing:
        return None
    if stats.HasField("string_stats"):
        return next(iter(counts(stats)), None) if stats.string_stats.unique == 1 else None
    if stats.HasField("num_stats") and stats.num_stats.min == stats.num_stats.max:
        return f"{stats.num_stats.min:g}"
    return None


def missing_share(measured: Measured, feature: str) -> float:
    """Return the share of examples without the feature; 1.0 if no example has it."""
    if feature not in measured.features:
        return 1.0
    return 1 - common(measured.features[feature]).num_non_missing / measured.examples if measured.examples else 0.0


def _expected_others(before: statistics_pb2.FeatureNameStatistics, value: str, examples: int) -> float:
    """Return how many of `examples` would have another value with the control's distribution."""
    total = common(before).num_non_missing
    if not total or constant_value(before) is not None:
        return 0.0
    if before.HasField("string_stats"):
        return (1 - counts(before).get(value, 0) / values_in(before)) * examples
    for histogram in before.num_stats.histograms:
        if histogram.type == statistics_pb2.Histogram.QUANTILES:
            same = sum(b.sample_count for b in histogram.buckets if f"{b.low_value:g}" == f"{b.high_value:g}" == value)
            return (1 - same / total) * examples
    return 0.0
