"""Drift against the last accepted snapshot, and skew between the splits, by TFDV's comparators in the schema."""

import json
import logging
from pathlib import Path

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

log = logging.getLogger("nightly")


@component
def DriftSkewValidator(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    baseline: Parameter[str],
    thresholds: Parameter[str],
) -> None:
    """Measure every drift and skew comparator of the schema on the train split.

    Writes TFDV's Anomalies, whose drift_skew_info holds each distance with its threshold.

    :param baseline: the folder with the last accepted statistics; "" where there are none, and no drift is measured
    :param thresholds: JSON {"drift.FEATURE" or "skew.FEATURE": threshold} in place of the schema's, for this run
    """
    anomalies.split_names = artifact_utils.encode_split_names(["train"])
    curated = read_schema(schema.uri)
    _override(curated, json.loads(thresholds))
    found = tfdv.validate_statistics(
        read_statistics(statistics.uri, "train"),
        curated,
        environment="TRAINING",
        previous_statistics=read_statistics(baseline, "train") if baseline else None,
        serving_statistics=read_statistics(statistics.uri, "eval"),
    )
    for info in found.drift_skew_info:
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for measured in measurements:
                log.info("%s of %s: %.4f (threshold %.4f)", kind, _name(info), measured.value, measured.threshold)
    folder = Path(artifact_utils.get_split_uri([anomalies], "train"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / example_validator.DEFAULT_FILE_NAME).write_bytes(found.SerializeToString())


def _name(info: anomalies_pb2.DriftSkewInfo) -> str:
    return ".".join(info.path.step)


def _override(schema: schema_pb2.Schema, thresholds: dict[str, float]) -> None:
    for key, threshold in thresholds.items():
        kind, _, name = key.partition(".")
        if kind not in ("drift", "skew"):
            continue
        feature = next((f for f in schema.feature if f.name == name), None)
        if feature is None or not feature.HasField(f"{kind}_comparator"):
            having = sorted(f.name for f in schema.feature if f.HasField(f"{kind}_comparator"))
            raise ValueError(f"threshold {key}: the schema has a {kind} comparator for {', '.join(having)} only")
        comparator = getattr(feature, f"{kind}_comparator")
        if comparator.HasField("jensen_shannon_divergence"):
            comparator.jensen_shannon_divergence.threshold = threshold
        else:
            comparator.infinity_norm.threshold = threshold


def read_schema(folder: str) -> schema_pb2.Schema:
    """The schema artifact's schema.pbtxt."""
    return text_format.Parse((Path(folder) / "schema.pbtxt").read_text(), schema_pb2.Schema())


def read_statistics(folder: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """One split of a statistics artifact, or of a baseline."""
    path = Path(folder) / f"Split-{split}" / statistics_gen.DEFAULT_FILE_NAME
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())


def read_anomalies(folder: str, split: str) -> anomalies_pb2.Anomalies:
    """One split of an anomalies artifact."""
    path = Path(folder) / f"Split-{split}" / example_validator.DEFAULT_FILE_NAME
    return anomalies_pb2.Anomalies.FromString(path.read_bytes())
