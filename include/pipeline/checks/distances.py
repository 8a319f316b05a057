"""Drift against each control, and skew between the splits, by TFDV's distances."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from include.contracts.night import Contribution, Reason
from include.pipeline.checks.evidence import CONTRIBUTIONS, Evidence, Measured, finding, not_measured
from include.pipeline.checks.schema import counts


class Share(NamedTuple):
    """What Contribution has of a value or a range, for the thousands of which only the largest are told."""

    value: str
    rows: int
    share: float
    control: float | None

    @property
    def change(self) -> float:
        return self.share - (self.control or 0.0)


def drift(evidence: Evidence) -> Iterator[Reason]:
    wanted = {feature.name for feature in evidence.schema.feature if feature.HasField("drift_comparator")}
    for one in evidence.compared:
        control = one.control
        if one.train is None or one.distances is None:
            yield not_measured("drift", control.missing, control=control.name, title=control.title)
            continue
        measured = {_name(info) for info in one.distances.drift_skew_info if info.drift_measurements}
        for feature in sorted(wanted - measured):
            who = "the control" if feature in evidence.train.features else "this night"
            yield not_measured(
                *("drift", f"{who} has no {feature}"), subject=feature, control=control.name, title=control.title
            )
        for info in one.distances.drift_skew_info:
            for distance in info.drift_measurements:
                yield _judged(evidence, "drift", _name(info), distance, one.train, control.title, control.name)


def skew(evidence: Evidence) -> Iterator[Reason]:
    for info in evidence.skew.drift_skew_info:
        for distance in info.skew_measurements:
            yield _judged(evidence, "skew", _name(info), distance, evidence.eval, "the eval split", "eval")


def _judged(
    evidence: Evidence,
    kind: str,
    feature: str,
    distance: anomalies_pb2.DriftSkewInfo.Measurement,
    control: Measured,
    title: str,
    name: str,
) -> Reason:
    smallest = min(evidence.train.examples, control.examples)
    if kind == "drift":
        smallest = min(smallest, evidence.eval.examples)
    values, rows = _contributions(evidence, feature, control)
    most = named(values)
    return finding(
        *(kind, feature, distance.value, distance.threshold),
        f"{feature} is {distance.value:.3f} away from {title}; {distance.threshold:.3f} is allowed"
        + (f"; most in {most}" if most and distance.value > distance.threshold else ""),
        action=f"Compare the two distributions of {feature}; if the change is real and wanted, "
        f"run again with the threshold {kind}.{feature} and a reason.",
        control=name,
        sample=smallest,
        enough=evidence.gate.min_rows_for_distance,
        values=values,
        rows=rows,
    )


def named(values: list[Contribution]) -> str:
    """The two values that contribute most, each with its share and the control's."""
    return "; ".join(
        f"{value.value}: {value.share:.1%}" + (f" ({value.control:.1%})" if value.control is not None else " (new)")
        for value in values[:2]
    )


def _name(info: anomalies_pb2.DriftSkewInfo) -> str:
    return ".".join(info.path.step)


def _contributions(
    evidence: Evidence, feature: str, control: Measured
) -> tuple[list[Contribution], Callable[[], list[str]]]:
    """The values or ranges whose shares differ most, and rows that have the one that grew most."""
    found, ranges = differences(evidence.train.features.get(feature), control.features.get(feature))
    grown = max(range(len(found)), key=lambda n: (found[n].change, found[n].value), default=None)
    most = largest(found)
    if grown is None:
        return most, list
    if ranges:
        return most, lambda: evidence.rows.between(feature, *ranges[grown])
    return most, lambda: evidence.rows.having(feature, [found[grown].value])


def largest(found: list[Share]) -> list[Contribution]:
    """Those whose shares differ most."""
    most = heapq.nsmallest(CONTRIBUTIONS, found, key=lambda one: (-abs(one.change), one.value))
    return [Contribution(**one._asdict()) for one in most]


def differences(
    now: statistics_pb2.FeatureNameStatistics | None, before: statistics_pb2.FeatureNameStatistics | None
) -> tuple[list[Share], list[tuple[float, float]]]:
    """The shares on both sides: of a text feature's values, or of ranges of a number, with these ranges."""
    if now is None or before is None or now.WhichOneof("stats") != before.WhichOneof("stats"):
        return [], []
    return (_categorical(now, before), []) if now.HasField("string_stats") else _numeric(now, before)


def _categorical(
    now: statistics_pb2.FeatureNameStatistics, before: statistics_pb2.FeatureNameStatistics
) -> list[Share]:
    new, old = counts(now), counts(before)
    total = max(now.string_stats.common_stats.num_non_missing, 1)
    total_before = max(before.string_stats.common_stats.num_non_missing, 1)
    return [
        Share(
            value=value,
            rows=new.get(value, 0),
            share=round(new.get(value, 0) / total, 6),
            control=round(old[value] / total_before, 6) if value in old else None,
        )
        for value in new.keys() | old.keys()
    ]


def _numeric(
    now: statistics_pb2.FeatureNameStatistics, before: statistics_pb2.FeatureNameStatistics
) -> tuple[list[Share], list[tuple[float, float]]]:
    """The shares between the control's deciles, and below and above them."""
    new, old = _quantiles(now), _quantiles(before)
    if new is None or old is None:
        return [], []
    edges = sorted({bucket.low_value for bucket in old.buckets} | {bucket.high_value for bucket in old.buckets})
    ranges = [(edges[n], edges[n + 1]) for n in range(len(edges) - 1)] or [(edges[0], edges[0])]
    low, high = new.buckets[0].low_value, new.buckets[-1].high_value
    ranges = [
        *([(low, edges[0])] if low < edges[0] else []),
        *ranges,
        *([(edges[-1], high)] if high > edges[-1] else []),
    ]
    total = max(now.num_stats.common_stats.num_non_missing, 1)
    found = []
    for start, end in ranges:
        share = _share(new, start, end, last=end == ranges[-1][1])
        control = _share(old, start, end, last=end == ranges[-1][1])
        found.append(
            Share(
                value=f"{start:g} to {end:g}",
                rows=round(share * total),
                share=round(share, 6),
                control=round(control, 6),
            )
        )
    return found, ranges


def _quantiles(stats: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.Histogram | None:
    found = [h for h in stats.num_stats.histograms if h.type == statistics_pb2.Histogram.QUANTILES and h.buckets]
    return found[0] if found else None


def _share(histogram: statistics_pb2.Histogram, start: float, end: float, *, last: bool) -> float:
    """The share of a histogram's mass in [start, end), or [start, end] for the last; even within a bucket."""
    total = sum(bucket.sample_count for bucket in histogram.buckets)
    inside = 0.0
    for bucket in histogram.buckets:
        low, high = bucket.low_value, bucket.high_value
        if high > low:
            inside += bucket.sample_count * max(0.0, min(end, high) - max(start, low)) / (high - low)
        elif start <= low < end or (last and low == end):
            inside += bucket.sample_count
    return inside / total if total else 0.0
