"""Statistics as a row a feature: what a person looks at first."""

from dataclasses import dataclass, field

from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.checks.evidence import Measured
from nightly.data.measuring import Statistics

TOP = 3  # values shown


@dataclass(frozen=True)
class FeatureSummary:
    """`missing` is a share of all rows. Numbers have min to zeros; text has unique and top, value -> rows."""

    name: str
    type: str  # INT, FLOAT, STRING or BYTES
    missing: float
    values: float  # a row that has any, on average
    min: float | None = None
    median: float | None = None
    max: float | None = None
    mean: float | None = None
    zeros: float | None = None  # of the values
    unique: int | None = None
    top: dict[str, int] = field(default_factory=dict)


def summary(found: Statistics) -> list[FeatureSummary]:
    """One row a feature, in the order of the data."""
    measured = Measured.of(found)
    return [_of(name, feature, measured.examples) for name, feature in measured.features.items()]


def _of(name: str, feature: statistics_pb2.FeatureNameStatistics, rows: int) -> FeatureSummary:
    kind = feature.WhichOneof("stats")
    stats = getattr(feature, kind)
    common = stats.common_stats
    given = {
        "name": name,
        "type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type),
        "missing": 1 - common.num_non_missing / rows if rows else 0.0,
        "values": common.avg_num_values,
    }
    if kind == "num_stats" and common.num_non_missing:
        zeros = stats.num_zeros / max(common.tot_num_values, 1)
        given |= {"min": stats.min, "median": stats.median, "max": stats.max, "mean": stats.mean, "zeros": zeros}
    elif kind == "string_stats":
        top = {value.value: int(value.frequency) for value in stats.top_values[:TOP]}
        given |= {"unique": int(stats.unique), "top": top}
    return FeatureSummary(**given)
