"""Compare two data sets: drift, skew, or the distance of every feature.

For text, TFDV measures L-infinity: the largest change of a value's share. For numbers, it measures the Jensen-Shannon
divergence (base 2). Both range from 0 (equal) to 1.
"""

from dataclasses import dataclass, field

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from nightly.checks.distances import differences, largest
from nightly.checks.evidence import Measured
from nightly.data.errors import DataError
from nightly.data.measuring import Statistics
from nightly.data.schemas import Kind, infer_schema, with_thresholds
from nightly.records.night import Contribution
from nightly.schemas.curated import threshold_of
from nightly.statistics.comparators import distances

Feature = statistics_pb2.FeatureNameStatistics
TRAINING, SERVING = "TRAINING", "SERVING"
ANY = 1.0  # a threshold that no distance exceeds
ENOUGH_ROWS = 200  # the distance between smaller samples is mostly chance


@dataclass(frozen=True)
class Distance:
    """The distance of one feature between two data sets, and the values that contribute to it."""

    feature: str
    norm: str
    value: float | None  # None if it was not measured
    threshold: float | None
    why: str = ""  # why it was not measured, or is not judged
    contributions: list[Contribution] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it was measured on enough rows and is not above its threshold."""
        return not self.why and self.value <= self.threshold


def drift(now: Statistics, before: Statistics, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """Measure the drift from `before` to `now` with each drift_comparator of the schema.

    Return all distances (drift_skew_info), and an anomaly for each distance above its threshold.
    Raises DataError if the schema has no drift_comparator, since nothing would be measured.
    """
    return _only_distances(distances(now, _with_environment(_require_comparator(schema, "drift")), before=before))


def skew(training: Statistics, serving: Statistics, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """Measure the skew of training and serving data with each skew_comparator, except for features serving lacks."""
    return _only_distances(distances(training, _with_environment(_require_comparator(schema, "skew")), beside=serving))


def compare(now: Statistics, before: Statistics) -> anomalies_pb2.Anomalies:
    """Measure the distance of every feature that both have, without a schema: drift_skew_info, no anomalies."""
    return drift(now, before, with_thresholds(infer_schema(now), "drift", every=ANY))


def explained(
    anomalies: anomalies_pb2.Anomalies,
    kind: Kind,
    now: Statistics,
    before: Statistics,
    schema: schema_pb2.Schema,
    *,
    min_rows: int = ENOUGH_ROWS,
) -> list[Distance]:
    """Return the distance for each comparator of the schema, with the values that contribute to it.

    Unmeasured features come first, as TFDV does not report them; then the distances furthest beyond their threshold.
    """
    sides = Measured.of(now), Measured.of(before)
    rows = min(side.examples for side in sides)
    few = f"{rows:,} rows say nothing; {min_rows:,} are needed" if rows < min_rows else ""
    measured = {
        ".".join(info.path.step): measurement
        for info in anomalies.drift_skew_info
        for measurement in (info.drift_measurements if kind == "drift" else info.skew_measurements)
    }
    explanations = []
    for feature in schema.feature:
        threshold, name = threshold_of(feature, kind), feature.name
        if threshold is None:
            continue
        first, second = (side.features.get(name) for side in sides)
        if kind == "skew" and second is None and SERVING in feature.not_in_environment:
            continue  # the label, which no request has
        norm = "L-infinity" if feature.type == schema_pb2.BYTES else "Jensen-Shannon"
        if name in measured:
            values = largest(differences(first, second))
            explanations.append(Distance(name, norm, measured[name].value, threshold, few, values))
        else:
            explanations.append(Distance(name, norm, None, threshold, _why_unmeasured(first, second)))
    return sorted(explanations, key=lambda d: (d.value is not None, -(d.value or 0) / (d.threshold or 1), d.feature))


def _why_unmeasured(first: Feature | None, second: Feature | None) -> str:
    for side, number in ((first, "first"), (second, "second")):
        if side is None or not getattr(side, side.WhichOneof("stats")).common_stats.num_non_missing:
            return f"the {number} has no {'such feature' if side is None else 'value'}"
    kinds = [side.WhichOneof("stats").removesuffix("_stats").replace("num", "number") for side in (first, second)]
    return f"{kinds[0]} in the first, {kinds[1]} in the second"


def _require_comparator(schema: schema_pb2.Schema, kind: Kind) -> schema_pb2.Schema:
    if all(threshold_of(feature, kind) is None for feature in schema.feature):
        raise DataError(
            f"the schema has no {kind}_comparator, so nothing would be measured: write thresholds into it, or give "
            "--threshold FEATURE=VALUE or --all VALUE (with_thresholds)"
        )
    return schema


def _with_environment(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Return the schema with the environment that TFDV's comparison needs."""
    if TRAINING in schema.default_environment:
        return schema
    named = schema_pb2.Schema()
    named.CopyFrom(schema)
    named.default_environment.append(TRAINING)
    return named


def _only_distances(anomalies: anomalies_pb2.Anomalies) -> anomalies_pb2.Anomalies:
    """Return the anomalies of distances only; `validate` reports the others."""
    only = anomalies_pb2.Anomalies(drift_skew_info=anomalies.drift_skew_info, baseline=anomalies.baseline)
    for name, info in anomalies.anomaly_info.items():
        reasons = [reason for reason in info.reason if _is_distance(reason.type)]
        if reasons:
            kept = only.anomaly_info[name]
            kept.path.CopyFrom(info.path)
            kept.severity = info.severity
            kept.short_description = "; ".join(reason.short_description for reason in reasons)
            kept.description = " ".join(reason.description for reason in reasons)
            kept.reason.extend(reasons)
    return only


def _is_distance(anomaly_type: int) -> bool:
    return anomalies_pb2.AnomalyInfo.Type.Name(anomaly_type).startswith("COMPARATOR_")
