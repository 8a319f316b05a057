"""Drift and skew of statistics, by TFDV's comparators in the schema."""

import logging
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator

from nightly.schemas.curated import set_threshold, threshold_of

log = logging.getLogger("nightly")


def distances(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    *,
    before: statistics_pb2.DatasetFeatureStatisticsList | None = None,
    factor: float = 1,
    beside: statistics_pb2.DatasetFeatureStatisticsList | None = None,
) -> anomalies_pb2.Anomalies:
    """TFDV's drift from `before` and skew against `beside`, the drift's thresholds multiplied by `factor`."""
    if factor != 1:
        scaled = schema_pb2.Schema()
        scaled.CopyFrom(schema)
        for feature in scaled.feature:
            threshold = threshold_of(feature, "drift")
            if threshold is not None:
                set_threshold(feature, "drift", threshold * factor)
        schema = scaled
    return tfdv.validate_statistics(
        train, schema, environment="TRAINING", previous_statistics=before, serving_statistics=beside
    )


def write_distances(found: anomalies_pb2.Anomalies, folder: Path) -> None:
    for info in found.drift_skew_info:
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for measured in measurements:
                name = ".".join(info.path.step)
                log.info("%s: %s of %s: %.4f (%.4f)", folder.name, kind, name, measured.value, measured.threshold)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / example_validator.DEFAULT_FILE_NAME).write_bytes(found.SerializeToString())
