"""Measure drift and skew between statistics, by the schema's comparators."""

import logging
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator

from nightly.schemas.curated import set_threshold, threshold_of
from nightly.statistics.sizes import comparable

log = logging.getLogger("nightly")


def distances(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    *,
    before: statistics_pb2.DatasetFeatureStatisticsList | None = None,
    factor: float = 1,
    beside: statistics_pb2.DatasetFeatureStatisticsList | None = None,
) -> anomalies_pb2.Anomalies:
    """Return TFDV's drift from `before` and skew against `beside`. Drift thresholds are multiplied by `factor`."""
    if factor != 1:
        scaled = schema_pb2.Schema()
        scaled.CopyFrom(schema)
        for feature in scaled.feature:
            threshold = threshold_of(feature, "drift")
            if threshold is not None:
                set_threshold(feature, "drift", threshold * factor)
        schema = scaled
    train, before, beside = (comparable(side) if side else None for side in (train, before, beside))
    return tfdv.validate_statistics(
        train, schema, environment="TRAINING", previous_statistics=before, serving_statistics=beside
    )


def write_distances(anomalies: anomalies_pb2.Anomalies, folder: Path) -> None:
    """Write the anomalies to `folder` as TFX's ExampleValidator does, and log each distance and its threshold."""
    for info in anomalies.drift_skew_info:
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for measured in measurements:
                name = ".".join(info.path.step)
                log.info("%s: %s of %s: %.4f (%.4f)", folder.name, kind, name, measured.value, measured.threshold)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / example_validator.DEFAULT_FILE_NAME).write_bytes(anomalies.SerializeToString())
