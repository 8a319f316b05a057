"""Features that have gone missing, or say the same in every row."""

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.checks.evidence import Evidence, Measured, finding, worst
from nightly.checks.schema import counts
from nightly.records.night import Contribution, Reason

OTHERS = 10  # rows with another value that the control lets expect; fewer can be none by chance


def missing(evidence: Evidence) -> Iterator[Reason]:
    for feature in evidence.train.features:
        found = []
        for one in evidence.present:
            if feature not in one.train.features:
                continue
            now, control = missing_share(evidence.train, feature), missing_share(one.train, feature)
            allowed = evidence.allowed("max_missing_change", one.control)
            found.append(
                finding(
                    *("max_missing_change", feature, abs(now - control), allowed),
                    f"{feature} is missing in {now:.1%} of the examples, in {control:.1%} of {one.control.title}; "
                    f"a change of {allowed:.1%} is allowed",
                    action=f"Look why {feature} is {'not recorded' if now > control else 'recorded'} there.",
                    control=one.control.name,
                    sample=min(evidence.train.examples, one.train.examples),
                    enough=evidence.gate.min_rows_for_distance,
                    rows=lambda feature=feature: evidence.rows.missing(feature),
                )
            )
        yield from worst(found)


def constant(evidence: Evidence) -> Iterator[Reason]:
    """A feature with one value only is held where a control lets others expect, and said otherwise."""
    for feature, stats in evidence.train.features.items():
        value = constant_value(stats)
        if value is None or feature == evidence.config.data.label.column:
            continue
        varied = [
            one
            for one in evidence.present
            if feature in one.train.features
            and _expected_others(one.train.features[feature], value, evidence.train.examples) >= OTHERS
        ]
        enough = evidence.train.examples >= evidence.gate.min_rows_for_distance
        yield Reason(
            check="constant_feature",
            subject=feature,
            figure=value,
            threshold="more than one value",
            held=bool(varied) and enough,
            severity="error" if varied and enough else "warning",
            control=varied[0].control.name if varied else "",
            message=f"{feature} is {value} in every example that has it"
            + (f", and was not in {varied[0].control.title}" if varied else ""),
            action=f"A constant tells a model nothing: look whether the source still fills {feature}.",
            values=[Contribution(value=value, rows=int(common(stats).num_non_missing), share=1.0)],
        )


def common(stats: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return getattr(stats, stats.WhichOneof("stats")).common_stats


def constant_value(stats: statistics_pb2.FeatureNameStatistics) -> str | None:
    """The only value that the feature has; None where it has several, or none."""
    if not common(stats).num_non_missing:
        return None
    if stats.HasField("string_stats"):
        return next(iter(counts(stats)), None) if stats.string_stats.unique == 1 else None
    if stats.HasField("num_stats") and stats.num_stats.min == stats.num_stats.max:
        return f"{stats.num_stats.min:g}"
    return None


def missing_share(measured: Measured, feature: str) -> float:
    """Of the examples; all of them where there is no such feature."""
    if feature not in measured.features:
        return 1.0
    return 1 - common(measured.features[feature]).num_non_missing / measured.examples if measured.examples else 0.0


def _expected_others(before: statistics_pb2.FeatureNameStatistics, value: str, examples: int) -> float:
    """How many of `examples` would have another value, if they were as the control's."""
    total = common(before).num_non_missing
    if not total or constant_value(before) is not None:
        return 0.0
    if before.HasField("string_stats"):
        return (1 - counts(before).get(value, 0) / total) * examples
    for histogram in before.num_stats.histograms:
        if histogram.type == statistics_pb2.Histogram.QUANTILES:
            same = sum(b.sample_count for b in histogram.buckets if f"{b.low_value:g}" == f"{b.high_value:g}" == value)
            return (1 - same / total) * examples
    return 0.0
