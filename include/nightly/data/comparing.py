"""How far apart two data sets are: drift, skew, and every feature side by side.

TFDV measures L-infinity of text, the largest change of any value's share, and the Jensen-Shannon divergence (base 2) of
numbers; both are from 0, the same, to 1.
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
ANY = 1.0  # no distance is above it
ENOUGH_ROWS = 200  # between smaller samples a distance is mostly chance


@dataclass(frozen=True)
class Distance:
    """One feature's, and what it rests on. `value` is None where it could not be measured: `why` says it."""

    feature: str
    norm: str
    value: float | None
    threshold: float | None
    why: str = ""  # it was not measured, or is not judged
    contributions: list[Contribution] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Measured, on enough rows, and not above its threshold."""
        return not self.why and self.value <= self.threshold


def drift(now: Statistics, before: Statistics, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """How far `now` is from `before`, by each drift_comparator of the schema: drift_skew_info, and what is beyond.

    Raises DataError where the schema has no drift_comparator, since then nothing would be measured.
    """
    return _only_distances(distances(now, _with_environment(_having(schema, "drift")), before=before))


def skew(training: Statistics, serving: Statistics, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """The same of training data and serving data, by each skew_comparator; a feature that serving lacks is not."""
    return _only_distances(distances(training, _with_environment(_having(schema, "skew")), beside=serving))


def compare(now: Statistics, before: Statistics) -> anomalies_pb2.Anomalies:
    """How far every feature that both have is from what it was, without a schema: drift_skew_info, no anomalies."""
    return drift(now, before, with_thresholds(infer_schema(now), "drift", every=ANY))


def explained(
    found: anomalies_pb2.Anomalies,
    kind: Kind,
    now: Statistics,
    before: Statistics,
    schema: schema_pb2.Schema,
    *,
    min_rows: int = ENOUGH_ROWS,
) -> list[Distance]:
    """Every distance that the schema asks for, the furthest from its threshold first, and what each comes from.

    What could not be measured is there too: TFDV is silent about it, and nobody should take it for good.
    """
    sides = Measured.of(now), Measured.of(before)
    rows = min(side.examples for side in sides)
    few = f"{rows:,} rows say nothing; {min_rows:,} are needed" if rows < min_rows else ""
    measured = {
        ".".join(info.path.step): measurement
        for info in found.drift_skew_info
        for measurement in (info.drift_measurements if kind == "drift" else info.skew_measurements)
    }
    explanations = []
    for feature in schema.feature:
        threshold, name = threshold_of(feature, kind), feature.name
        if threshold is None:
            continue
        one, other = (side.features.get(name) for side in sides)
        if kind == "skew" and other is None and SERVING in feature.not_in_environment:
            continue  # the label, which no request has
        norm = "L-infinity" if feature.type == schema_pb2.BYTES else "Jensen-Shannon"
        if name in measured:
            values = largest(differences(one, other))
            explanations.append(Distance(name, norm, measured[name].value, threshold, few, values))
        else:
            explanations.append(Distance(name, norm, None, threshold, _why(one, other)))
    return sorted(explanations, key=lambda d: (d.value is not None, -(d.value or 0) / (d.threshold or 1), d.feature))


def _why(one: Feature | None, other: Feature | None) -> str:
    for side, number in ((one, "first"), (other, "second")):
        if side is None or not getattr(side, side.WhichOneof("stats")).common_stats.num_non_missing:
            return f"the {number} has no {'such feature' if side is None else 'value'}"
    kinds = [side.WhichOneof("stats").removesuffix("_stats").replace("num", "number") for side in (one, other)]
    return f"{kinds[0]} in the first, {kinds[1]} in the second"


def _having(schema: schema_pb2.Schema, kind: Kind) -> schema_pb2.Schema:
    if all(threshold_of(feature, kind) is None for feature in schema.feature):
        raise DataError(
            f"the schema has no {kind}_comparator, so nothing would be measured: write thresholds into it, or give "
            "--threshold FEATURE=VALUE or --all VALUE (with_thresholds)"
        )
    return schema


def _with_environment(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """TFDV compares within an environment that the schema has to name."""
    if TRAINING in schema.default_environment:
        return schema
    named = schema_pb2.Schema()
    named.CopyFrom(schema)
    named.default_environment.append(TRAINING)
    return named


def _only_distances(found: anomalies_pb2.Anomalies) -> anomalies_pb2.Anomalies:
    """Without the anomalies of other kinds, which are `validate`'s to say."""
    only = anomalies_pb2.Anomalies(drift_skew_info=found.drift_skew_info, baseline=found.baseline)
    for name, info in found.anomaly_info.items():
        reasons = [reason for reason in info.reason if _is_distance(reason.type)]
        if reasons:
            kept = only.anomaly_info[name]
            kept.path.CopyFrom(info.path)
            kept.severity = info.severity
            kept.short_description = "; ".join(reason.short_description for reason in reasons)
            kept.description = " ".join(reason.description for reason in reasons)
            kept.reason.extend(reasons)
    return only


def _is_distance(kind: int) -> bool:
    return anomalies_pb2.AnomalyInfo.Type.Name(kind).startswith("COMPARATOR_")
