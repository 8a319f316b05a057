"""ExampleValidator's anomalies against the curated schema. The same anomaly in both splits is a single finding."""

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from nightly.checks.evidence import Evidence, SnapshotRows
from nightly.checks.findings import CONTRIBUTIONS, fault
from nightly.records.night import Contribution, Reason
from nightly.schemas import curated

SEVERITIES = {anomalies_pb2.AnomalyInfo.ERROR: "error", anomalies_pb2.AnomalyInfo.WARNING: "warning"}

ABSENT = (
    anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_FRACTION_PRESENT,
    anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_NUMBER_PRESENT,
)


def check(evidence: Evidence) -> Iterator[Reason]:
    seen = set()
    for split, anomalies in evidence.anomalies.items():
        if anomalies.data_missing:
            yield fault(
                *("schema", f"{split} split", f"the {split} split has no examples"),
                figure=0,
                threshold=None,
                action="There are no labelled rows for it in the snapshot.",
            )
        infos = dict(anomalies.anomaly_info)
        if anomalies.HasField("dataset_anomaly_info"):
            infos["the data set"] = anomalies.dataset_anomaly_info
        for feature, info in sorted(infos.items()):
            if (feature, info.short_description) in seen:  # the shares in the description differ by split
                continue
            seen.add((feature, info.short_description))
            values, message = _out_of_domain(evidence, feature), f"{feature}: {info.description}"
            yield Reason(
                check="schema",
                subject=feature,
                figure=info.short_description,
                threshold="the curated schema",
                held=info.severity == anomalies_pb2.AnomalyInfo.ERROR,
                severity=SEVERITIES.get(info.severity, "info"),
                message=message,
                headline=message,
                action="If the data is right, change the curated schema; if not, ask the source's owner.",
                values=values,
                rows=_rows(evidence.rows, feature, info, [value.value for value in values]),
            )


def domain_of(evidence: Evidence, feature: str) -> set[str] | None:
    """Return the values that the feature's domain in the schema allows; None if it has no domain."""
    domain = curated.domain_of(evidence.schema, feature)
    return None if domain is None else set(domain)


def counts(stats: statistics_pb2.FeatureNameStatistics) -> dict[str, int]:
    """Return value -> how often a categorical feature has it. TFDV keeps the 1,000 most frequent values."""
    return {bucket.label: int(bucket.sample_count) for bucket in stats.string_stats.rank_histogram.buckets}


def values_in(stats: statistics_pb2.FeatureNameStatistics) -> int:
    """Return how many values a categorical feature has in all: one in each example that has it, unless it is a list."""
    common = stats.string_stats.common_stats
    return int(common.tot_num_values or common.num_non_missing)


def _out_of_domain(evidence: Evidence, feature: str) -> list[Contribution]:
    domain, stats = domain_of(evidence, feature), evidence.train.features.get(feature)
    if domain is None or stats is None:
        return []
    total = values_in(stats)
    strange = {value: rows for value, rows in counts(stats).items() if value not in domain}
    most = sorted(strange, key=strange.get, reverse=True)[:CONTRIBUTIONS]
    return [Contribution(value=value, rows=strange[value], share=strange[value] / total) for value in most]


def _rows(rows: SnapshotRows, feature: str, info: anomalies_pb2.AnomalyInfo, values: list[str]) -> list[str]:
    if values:
        return rows.having(feature, values)
    absent = any(reason.type in ABSENT for reason in info.reason)
    return rows.missing(feature) if absent else []
