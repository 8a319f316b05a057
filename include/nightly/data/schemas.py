"""Infer, read and write schemas, and validate statistics against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from nightly.data.errors import DataError
from nightly.data.measuring import Statistics
from nightly.data.proposals import describe
from nightly.io.atomic import write_atomically
from nightly.io.hints import did_you_mean
from nightly.records.config import ModelConfig
from nightly.schemas import curated
from nightly.schemas.curated import set_threshold, threshold_of

Kind = Literal["drift", "skew"]
SCHEMA = "schema.pbtxt"
ENVIRONMENTS = ("TRAINING", "SERVING")
# Initial thresholds for text and for numbers, a little wider than most of the example models' own.
THRESHOLDS: dict[Kind, tuple[float, float]] = {"drift": (0.1, 0.25), "skew": (0.1, 0.3)}
MIN_DOMAIN_MASS = 0.98  # the share of values in the domain: allows a rare new value, but no renamed one
HEADER = """\
# The curated schema of {model}, inferred from {data}. Review and correct it.
# The thresholds are initial values; docs/checks.md explains how to measure thresholds for your data.

"""


def infer_schema(statistics: Statistics) -> schema_pb2.Schema:
    """Infer a schema with TFDV, for a person to review and correct before use.

    Features have their observed presence but no shape, since an example may lack any feature. Only vectors that every
    row has get a shape.
    """
    schema = tfdv.infer_schema(statistics, infer_feature_shape=False)
    (dataset,) = statistics.datasets
    measured = {".".join(stats.path.step): stats for stats in dataset.features}
    for feature in schema.feature:
        if feature.name in measured:
            describe(feature, measured[feature.name], dataset.num_examples)
    return schema


def first_schema(statistics: Statistics, config: ModelConfig) -> schema_pb2.Schema:
    """Return a first curated schema for a model, from statistics of its data as its nights read them.

    In addition to `infer_schema`, it has a comparator with an initial threshold for each feature, the environments, and
    some tolerance for new values of a category.
    """
    schema = infer_schema(statistics)
    for feature in schema.feature:
        if feature.name == config.data.time_column:  # a number in snapshots, and larger every night: no bounds
            present = feature.presence
            feature.CopyFrom(schema_pb2.Feature(name=feature.name, type=schema_pb2.INT, presence=present))
        elif feature.name in (config.data.label.column, config.data.weight_column):
            feature.not_in_environment.append("SERVING")
        elif feature.HasField("domain"):
            feature.distribution_constraints.min_domain_mass = MIN_DOMAIN_MASS
    compared = [feature for feature in schema.feature if feature.name != config.data.time_column]
    for kind, (of_text, of_numbers) in THRESHOLDS.items():
        thresholds = {f.name: of_text if f.type == schema_pb2.BYTES else of_numbers for f in compared}
        schema = with_thresholds(schema, kind, thresholds)
    schema.default_environment.extend(ENVIRONMENTS)
    return schema


def with_thresholds(
    schema: schema_pb2.Schema, kind: Kind, thresholds: Mapping[str, float] = {}, every: float | None = None
) -> schema_pb2.Schema:
    """Return a copy of `schema` with these thresholds.

    A feature without a comparator gets the one for its type. Numbers are compared in quantiles, since one outlier would
    distort bins of equal width. Raises DataError for an unknown feature.

    :param thresholds: feature -> threshold
    :param every: the threshold of all other features
    """
    changed = schema_pb2.Schema()
    changed.CopyFrom(schema)
    names = [feature.name for feature in schema.feature]
    for name in thresholds.keys() - set(names):
        raise DataError(f"the threshold for {name!r}: there is no such feature{did_you_mean(name, names)}")
    for feature in changed.feature:
        threshold = thresholds.get(feature.name, every)
        if threshold is None:
            continue
        if threshold_of(feature, kind) is None:
            comparator = getattr(feature, f"{kind}_comparator")
            if feature.type == schema_pb2.BYTES:
                comparator.infinity_norm.threshold = threshold
            else:
                comparator.jensen_shannon_divergence.source.type = schema_pb2.HistogramSelection.QUANTILES
        set_threshold(feature, kind, threshold)
    return changed


def read_schema(path: str | Path) -> schema_pb2.Schema:
    """Read a schema in text format; `path` may be a model's folder.

    Raises DataError, also if a comparator does not fit its feature.
    """
    file = schema_file(path)
    try:
        return curated.read_schema(file)
    except FileNotFoundError:
        hint = f"`bin/data schema infer DATA --out {file}` writes a first one; add --model NAME for a model's"
        raise DataError(f"there is no schema at {file}; {hint}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a schema in text format: {error}") from error
    except (curated.SchemaError, OSError) as error:
        raise DataError(str(error)) from error


def validate(
    statistics: Statistics, schema: schema_pb2.Schema, *, environment: str | None = None
) -> anomalies_pb2.Anomalies:
    """Return the anomalies of the data under `schema`, e.g. for tfdv.display_anomalies.

    :param environment: one of the schema's, e.g. SERVING, which expects no label
    :raises DataError: the schema has no such environment
    """
    known = list(schema.default_environment)
    if environment and environment not in known:
        hint = did_you_mean(environment, known) if known else "; add a default_environment: line for each environment"
        raise DataError(f"the schema has no environment {environment!r}{hint}")
    return tfdv.validate_statistics(statistics, schema, environment=environment)


def schema_file(path: str | Path) -> Path:
    """Return `path`, or schema.pbtxt in it if it is a folder."""
    path = Path(path).expanduser()
    return path / SCHEMA if path.is_dir() else path


def save_schema(schema: schema_pb2.Schema, path: str | Path, header: str = "") -> None:
    """Write a schema in text format, for `read_schema` and tfdv.load_schema_text; `header` is lines of comments."""
    write_atomically(Path(path), (header + text_format.MessageToString(schema, as_utf8=True)).encode())


@dataclass(frozen=True)
class Anomaly:
    """One of TFDV's anomalies, as text."""

    severity: str  # ERROR or WARNING
    feature: str  # "" for the data set as a whole
    short: str
    description: str


def listed(anomalies: anomalies_pb2.Anomalies) -> list[Anomaly]:
    """Return the anomalies, errors first, then by feature."""
    infos = list(anomalies.anomaly_info.items())
    if anomalies.HasField("dataset_anomaly_info"):
        infos.append(("", anomalies.dataset_anomaly_info))
    name = anomalies_pb2.AnomalyInfo.Severity.Name
    rows = [Anomaly(name(i.severity), feature, i.short_description, i.description) for feature, i in infos]
    if anomalies.data_missing:
        rows.append(Anomaly("ERROR", "", "No data", "The data set has no rows."))
    return sorted(rows, key=lambda anomaly: (anomaly.severity, anomaly.feature))


def rows_of(schema: schema_pb2.Schema) -> list[list[str]]:
    """Return a table row for each feature: name, type, presence, values, domain, drift, skew, excluded environments."""
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
