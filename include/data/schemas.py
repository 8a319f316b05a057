"""Schemas: inferred, read, and held against statistics."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from include.contracts.base import did_you_mean, write_atomically
from include.data.errors import DataError
from include.data.measuring import Statistics
from include.pipeline import schema as curated


def infer_schema(statistics: Statistics) -> schema_pb2.Schema:
    """TFDV's guess at a schema, for a person to read and correct before anything is held against it.

    Features get no shape: an example may lack any of them, and the presence that was seen stands beside it.
    """
    return tfdv.infer_schema(statistics, infer_feature_shape=False)


def read_schema(path: str | Path) -> schema_pb2.Schema:
    """A schema in text format; `path` may be a model's folder. Raises DataError, also where a comparator cannot fit."""
    try:
        return curated.read_schema(Path(path).expanduser())
    except FileNotFoundError:
        raise DataError(f"there is no schema at {path}; `schema infer DATA --out {path}` proposes one") from None
    except (curated.SchemaError, OSError, UnicodeDecodeError) as error:
        raise DataError(str(error)) from error


def validate(
    statistics: Statistics, schema: schema_pb2.Schema, *, environment: str | None = None
) -> anomalies_pb2.Anomalies:
    """What in the data is not as `schema` has it, for tfdv.display_anomalies.

    :param environment: one of the schema's, e.g. SERVING, where the label is not expected
    :raises DataError: the schema has no such environment
    """
    known = list(schema.default_environment)
    if environment and environment not in known:
        hint = did_you_mean(environment, known) if known else "; write default_environment: in it for each there is"
        raise DataError(f"the schema has no environment {environment!r}{hint}")
    return tfdv.validate_statistics(statistics, schema, environment=environment)


def save_schema(schema: schema_pb2.Schema, path: str | Path) -> None:
    """Write a schema in text format, as `read_schema` and tfdv.load_schema_text read it."""
    write_atomically(Path(path), text_format.MessageToString(schema).encode())


@dataclass(frozen=True)
class Anomaly:
    """One of TFDV's, in words."""

    severity: str  # ERROR or WARNING
    feature: str  # "" for the data set as a whole
    short: str
    description: str


def listed(anomalies: anomalies_pb2.Anomalies) -> list[Anomaly]:
    """Errors first, then by feature."""
    infos = list(anomalies.anomaly_info.items())
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("", anomalies.dataset_anomaly_info))
    name = anomalies_pb2.AnomalyInfo.Severity.Name
    found = [Anomaly(name(i.severity), feature, i.short_description, i.description) for feature, i in infos]
    if anomalies.data_missing:
        found.append(Anomaly("ERROR", "", "No data", "The data set has no rows."))
    return sorted(found, key=lambda one: (one.severity, one.feature))


def rows_of(schema: schema_pb2.Schema) -> list[list[str]]:
    """Each feature in words: name, type, presence, values, domain, drift, skew, and the environments it is not in."""
    domains = {domain.name: domain.value for domain in schema.string_domain}
    return [
        [
            feature.name,
            schema_pb2.FeatureType.Name(feature.type),
            f"{feature.presence.min_fraction:.0%}" if feature.HasField("presence") else "",
            f"{feature.value_count.min} to {feature.value_count.max or 'any'}"
            if feature.HasField("value_count")
            else "",
            _domain(feature, domains),
            *(_threshold(feature, kind) for kind in curated.KINDS),
            ", ".join(feature.not_in_environment),
        ]
        for feature in schema.feature
    ]


def _domain(feature: schema_pb2.Feature, domains: dict[str, list[str]]) -> str:
    values = domains.get(feature.domain) or feature.string_domain.value
    if values:
        return f"{len(values)}: " + ", ".join(values)[:60]
    for kind in ("int_domain", "float_domain"):
        if feature.HasField(kind):
            domain = getattr(feature, kind)
            ends = [f"{getattr(domain, end):g}" if domain.HasField(end) else "…" for end in ("min", "max")]
            return " to ".join(ends)
    return ""


def _threshold(feature: schema_pb2.Feature, kind: str) -> str:
    threshold = curated.threshold_of(feature, kind)
    return "" if threshold is None else f"{threshold:g}"
