"""Write the distributions that the night's page draws: each feature's beside the control's, from TFDV's statistics."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from nightly.records.distributions import (
    Distance,
    Distributions,
    FeatureDistribution,
    Histogram,
    Lengths,
    ValueShare,
)
from nightly.statistics.files import SERVING, TRAINING, read_anomalies, read_controls, read_distances, read_statistics
from nightly.statistics.serving import read_requests
from nightly.statistics.sizes import comparable

CONTROL = "last_accepted"
TOP = 10  # categories shown for each feature
BINS = 16
NORMS = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon",
}
Feature = statistics_pb2.FeatureNameStatistics


def write_distributions(folder: Path, statistics: str, drift_skew: str) -> Path:
    """Write distributions.json (contract Distributions) into the night's folder.

    :param statistics: the night's statistics artifact
    :param drift_skew: DriftSkewValidator's anomalies artifact: the controls, and the distances to each
    """
    last = next((control for control in read_controls(drift_skew) if control.name == CONTROL and control.folder), None)
    return build_distributions(
        read_statistics(statistics, "train"),
        read_statistics(last.folder, "train") if last else None,
        drift=read_distances(drift_skew, CONTROL) if last else None,
        skew=read_anomalies(drift_skew, "train"),
        control=last.title if last else "",
    ).save(folder / Distributions.FILE)


def write_serving_distributions(folder: Path, served: str, drift_skew: str) -> None:
    """Write the distributions of logged requests beside the training rows of the same days, if there are requests.

    :param served: DriftSkewValidator's artifact of request statistics
    :param drift_skew: DriftSkewValidator's anomalies artifact
    """
    (folder / Distributions.SERVING_FILE).unlink(missing_ok=True)
    about = read_requests(Path(served))
    if not about.missing:
        build_distributions(
            read_statistics(served, SERVING),
            read_statistics(served, TRAINING),
            skew=read_distances(drift_skew, SERVING),
            control=about.rows,
        ).save(folder / Distributions.SERVING_FILE)


def build_distributions(
    ours: statistics_pb2.DatasetFeatureStatisticsList,
    theirs: statistics_pb2.DatasetFeatureStatisticsList | None,
    *,
    drift: anomalies_pb2.Anomalies | None = None,
    skew: anomalies_pb2.Anomalies | None = None,
    control: str = "",
) -> Distributions:
    """Return the distributions of every feature on either side, sorted by name."""
    sides = Side(ours), Side(theirs)
    names = sorted(sides[0].features | sides[1].features)
    drifted, skewed = _distances(drift, "drift_measurements"), _distances(skew, "skew_measurements")
    return Distributions(
        examples_current=sides[0].examples,
        examples_control=sides[1].examples if theirs else None,
        control=control,
        features=[_feature(name, *sides, drifted.get(name), skewed.get(name)) for name in names],
    )


class Side:
    """The statistics of a data set by feature; empty if there is no control."""

    def __init__(self, statistics: statistics_pb2.DatasetFeatureStatisticsList | None) -> None:
        dataset = comparable(statistics).datasets[0] if statistics else statistics_pb2.DatasetFeatureStatistics()
        self.exists = statistics is not None
        self.examples = dataset.num_examples
        self.features = {feature.name or ".".join(feature.path.step): feature for feature in dataset.features}


def _feature(name: str, ours: Side, theirs: Side, drift: Distance | None, skew: Distance | None) -> FeatureDistribution:
    current, control = ours.features.get(name), theirs.features.get(name)
    some = control if current is None else current
    sides = (current, ours.examples, control, theirs.examples)
    numeric = some.HasField("num_stats")
    return FeatureDistribution(
        name=name,
        type=Feature.Type.Name(some.type),
        missing_current=_missing(current, ours.examples),
        missing_control=_missing(control, theirs.examples),
        drift=drift,
        skew=skew,
        distinct_current=_distinct(current),
        distinct_control=_distinct(control),
        lengths_current=_lengths(current),
        lengths_control=_lengths(control),
        values=[] if numeric else _values(*sides),
        histogram=_histogram(*sides) if numeric else None,
    )


def _distances(anomalies: anomalies_pb2.Anomalies | None, kind: str) -> dict[str, Distance]:
    return {
        ".".join(info.path.step): Distance(value=m.value, threshold=m.threshold, norm=NORMS.get(m.type, ""))
        for info in (anomalies.drift_skew_info if anomalies else ())
        for m in getattr(info, kind)
        if math.isfinite(m.value)
    }


def _common(feature: Feature) -> statistics_pb2.CommonStatistics:
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def _missing(feature: Feature | None, examples: int) -> float | None:
    if feature is None:
        return None
    return 1 - _common(feature).num_non_missing / examples if examples else 1.0


def _distinct(feature: Feature | None) -> int | None:
    return feature.string_stats.unique if feature is not None and feature.HasField("string_stats") else None


def _lengths(feature: Feature | None) -> Lengths | None:
    if feature is None or _common(feature).max_num_values < 2:
        return None
    common = _common(feature)
    return Lengths(fewest=common.min_num_values, mean=common.avg_num_values, most=common.max_num_values)


def _values(current: Feature | None, examples: int, control: Feature | None, control_examples: int) -> list[ValueShare]:
    """Return the most frequent categories of either side, with their share in both."""
    ours, theirs = _shares(current, examples), _shares(control, control_examples)
    top = sorted(ours | theirs, key=lambda value: -max(ours.get(value, 0), theirs.get(value, 0)))[:TOP]
    return [ValueShare(value=v, current=ours.get(v, 0), control=theirs.get(v, 0)) for v in top]


def _shares(feature: Feature | None, examples: int) -> dict[str, float]:
    if feature is None or not examples or not feature.HasField("string_stats"):
        return {}
    total = _common(feature).tot_num_values if _lengths(feature) else examples
    return {bucket.label: bucket.sample_count / total for bucket in feature.string_stats.rank_histogram.buckets}


def _histogram(
    current: Feature | None, examples: int, control: Feature | None, control_examples: int
) -> Histogram | None:
    """Return both sides over the same bins, from TFDV's ten equal widths and ten quantiles of each side."""
    sides = [f for f in (current, control) if f is not None and f.HasField("num_stats") and _common(f).num_non_missing]
    if not sides:
        return None
    edges = _edges(sides)
    return Histogram(
        edges=edges, current=_binned(current, edges, examples), control=_binned(control, edges, control_examples)
    )


def _edges(sides: list[Feature]) -> list[float]:
    low, high = min(f.num_stats.min for f in sides), max(f.num_stats.max for f in sides)
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = (max(min(v, 1e300), -1e300) for v in (low, high))
    if low == high:
        return [low, high]
    if _whole(sides) and high - low < 10:  # each of TFDV's ten buckets then holds at most one whole number
        return [low - 0.5 + step for step in range(int(high - low) + 2)]
    deciles = [point for f in sides for point, _ in _knots(f, statistics_pb2.Histogram.QUANTILES)[1:-1]]
    begin, end = (min(deciles), max(deciles)) if deciles else (low, high)
    if (high - low) / 10 <= end - begin:  # the equal widths resolve the tails; else each tail is one bin
        reach = 0.75 * (end - begin)
        begin, end = max(low, begin - reach), min(high, end + reach)
    if begin >= end:
        begin, end = low, high
    return sorted({low, *(float(edge) for edge in np.linspace(begin, end, BINS - 1)), high})


def _binned(feature: Feature | None, edges: list[float], examples: int) -> list[float]:
    """Return the share of examples in each bin. Values count as evenly spread within TFDV's buckets."""
    if feature is None or not examples or not feature.HasField("num_stats"):
        return [0.0] * (len(edges) - 1)
    present = _common(feature).num_non_missing / examples
    if len(edges) == 2:
        return [present]
    if _whole([feature]) and edges[1] - edges[0] == 1 and len(edges) <= 11:
        return _by_number(feature, edges, present)
    knots = sorted(
        _knots(feature, statistics_pb2.Histogram.STANDARD) + _knots(feature, statistics_pb2.Histogram.QUANTILES)
    )
    if len(knots) < 2:
        return [0.0] * (len(edges) - 1)
    # Shares below each edge, exclusive: a frequent value belongs to the bin that starts with it.
    points = np.array([point for point, _ in knots])
    below = np.maximum.accumulate([share for _, share in knots])
    cumulative = [_share_below(edge, points, below) for edge in edges]
    cumulative[0], cumulative[-1] = 0.0, 1.0
    return [round(float(max(b - a, 0.0)) * present, 6) for a, b in pairwise(cumulative)]


def _share_below(edge: float, points: np.ndarray, below: np.ndarray) -> float:
    at = int(np.searchsorted(points, edge, side="left"))
    if at == 0:
        return 0.0
    if at == len(points):
        return 1.0
    width = points[at] - points[at - 1]
    part = (edge - points[at - 1]) / width if width else 0.0
    return float(below[at - 1] + part * (below[at] - below[at - 1]))


def _knots(feature: Feature, kind: int) -> list[tuple[float, float]]:
    """Return (x, share of the present values up to x) at each boundary of the feature's histogram of a kind."""
    histogram = next((h for h in feature.num_stats.histograms if h.type == kind), None)
    total = sum(bucket.sample_count for bucket in histogram.buckets) if histogram else 0
    if not total:
        return []
    knots, so_far = [(histogram.buckets[0].low_value, 0.0)], 0.0
    for bucket in histogram.buckets:
        so_far += bucket.sample_count
        knots.append((bucket.high_value, so_far / total))
    return [(x, share) for x, share in knots if math.isfinite(x)]


def _whole(sides: list[Feature]) -> bool:
    return all(feature.type == Feature.INT for feature in sides)


def _by_number(feature: Feature, edges: list[float], present: float) -> list[float]:
    """Return the share of each whole number, from the equal-width bucket that holds it."""
    shares = [0.0] * (len(edges) - 1)
    buckets = next((h.buckets for h in feature.num_stats.histograms if h.type == statistics_pb2.Histogram.STANDARD), [])
    total = sum(bucket.sample_count for bucket in buckets)
    for bucket in buckets:
        if not bucket.sample_count:
            continue
        number = math.ceil(bucket.low_value - 1e-9)  # the only whole number in [low, high)
        position = min(max(int(number - (edges[0] + 0.5)), 0), len(shares) - 1)
        shares[position] += bucket.sample_count / total * present
    return [round(share, 6) for share in shares]
