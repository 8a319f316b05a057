"""A summary of statistics: one row a feature."""

from dataclasses import dataclass, field

from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.checks.evidence import Measured
from nightly.data.measuring import Statistics

TOP = 3  # values shown


@dataclass(frozen=True)
class FeatureSummary:
    """A feature's summary: numbers have `min` to `zeros`, text has `unique` and `top`."""

    name: str
    type: str  # INT, FLOAT, STRING or BYTES
    missing: float  # share of all rows
    values: float  # mean number of values in rows with any
    min: float | None = None
    median: float | None = None
    max: float | None = None
    mean: float | None = None
    zeros: float | None = None  # share of the values
    unique: int | None = None
    top: dict[str, int] = field(default_factory=dict)  # most frequent value -> rows


def summary(statistics: Statistics) -> list[FeatureSummary]:
    """Return the summary of each feature, in the order of the data."""
    measured = Measured.of(statistics)
    return [_summarize(name, feature, measured.examples) for name, feature in measured.features.items()]


def _summarize(name: str, feature: statistics_pb2.FeatureNameStatistics, rows: int) -> FeatureSummary:
    kind = feature.WhichOneof("stats")
    stats = getattr(feature, kind)
    common = stats.common_stats
    fields = {
        "name": name,
        "type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type),
        "missing": 1 - common.num_non_missing / rows if rows else 0.0,
        "values": common.avg_num_values,
    }
    if kind == "num_stats" and common.num_non_missing:
        zeros = stats.num_zeros / max(common.tot_num_values, 1)
        fields |= {"min": stats.min, "median": stats.median, "max": stats.max, "mean": stats.mean, "zeros": zeros}
    elif kind == "string_stats":
        top = {value.value: int(value.frequency) for value in stats.top_values[:TOP]}
        fields |= {"unique": int(stats.unique), "top": top}
    return FeatureSummary(**fields)
