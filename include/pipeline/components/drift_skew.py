"""Drift against each control, and skew between the splits and against serving, by TFDV's comparators in the schema."""

import json
import logging
from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from include.contracts.base import write_atomically
from include.contracts.baseline import Control
from include.contracts.night import Night, SnapshotRef
from include.pipeline.requests import FILE as REQUESTS
from include.pipeline.requests import compare
from include.pipeline.schema import override_thresholds, read_schema, set_threshold, threshold_of
from include.release.files import differences, hash_files

log = logging.getLogger("nightly")

CONTROLS = "controls"  # a folder beside the split's: controls.json, and Anomalies for each control
SERVING, TRAINING = "serving", "training"  # splits of the requests, and of the rows that they are compared with


@component
def DriftSkewValidator(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    requests: OutputArtifact[standard_artifacts.ExampleStatistics],
    controls: Parameter[str],
    thresholds: Parameter[str],
    predictions: Parameter[str],
    night_folder: Parameter[str],
) -> None:
    """Measure every drift and skew comparator of the schema on the train split.

    Writes TFDV's Anomalies, whose drift_skew_info holds each distance with its threshold. The split's has the skew
    against the eval split and the drift against the first control, as TFDV itself has them; controls/<name> has the
    drift against each control. `requests` has the statistics of logged requests (Split-serving) and of the training
    rows of the same days (Split-training), and controls/serving the skew between them; where there are no requests, it
    says why and has no split.

    :param controls: JSON, a list of Control
    :param thresholds: JSON {"drift.FEATURE" or "skew.FEATURE": threshold} in place of the schema's, for this run
    :param predictions: where clients log what they ask
    :param night_folder: where request.json and snapshot.json are
    """
    anomalies.split_names = artifact_utils.encode_split_names(["train"])
    curated = read_schema(Path(schema.uri))
    override_thresholds(curated, json.loads(thresholds))
    train, held_out = (read_statistics(statistics.uri, split) for split in ("train", "eval"))
    compared = [_whole(Control.parse(one, where="the controls of this run")) for one in json.loads(controls)]
    written = json.dumps([control.model_dump(mode="json") for control in compared])
    write_atomically(Path(anomalies.uri) / CONTROLS / "controls.json", written.encode())

    first = next((one for one in compared if one.folder), None)
    before = read_statistics(first.folder, "train") if first else None
    skew = distances(train, curated, before=before, factor=first.factor if first else 1, beside=held_out)
    _write(skew, Path(artifact_utils.get_split_uri([anomalies], "train")))
    for one in compared:
        if one.folder:
            found = distances(train, curated, before=read_statistics(one.folder, "train"), factor=one.factor)
            _write(found, Path(anomalies.uri) / CONTROLS / one.name)

    night = Night.load(Path(night_folder) / "request.json")
    snapshot = SnapshotRef.load(Path(night_folder) / "snapshot.json")
    about, served, trained = compare(night, curated, Path(predictions), Path(snapshot.path))
    about.save(Path(requests.uri) / REQUESTS)
    sides = {SERVING: served, TRAINING: trained} if not about.missing else {}
    requests.split_names = artifact_utils.encode_split_names(list(sides))
    for split, found in sides.items():
        write_statistics(requests.uri, split, found)
    if sides:
        _write(distances(trained, curated, beside=served), Path(anomalies.uri) / CONTROLS / SERVING)
    else:
        log.info("serving: %s", about.missing)


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


def _write(found: anomalies_pb2.Anomalies, folder: Path) -> None:
    for info in found.drift_skew_info:
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for measured in measurements:
                name = ".".join(info.path.step)
                log.info("%s: %s of %s: %.4f (%.4f)", folder.name, kind, name, measured.value, measured.threshold)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / example_validator.DEFAULT_FILE_NAME).write_bytes(found.SerializeToString())


def read_controls(folder: str) -> list[Control]:
    """What an anomalies artifact of this component was measured against."""
    path = Path(folder) / CONTROLS / "controls.json"
    return [_whole(Control.parse(one, where=str(path))) for one in json.loads(path.read_text())]


def _whole(control: Control) -> Control:
    """The control, or why there is nothing to compare with: its statistics are not those that were accepted."""
    if control.baseline is None or control.baseline.files is None:  # accepted by an older version
        return control
    files = hash_files(Path(control.folder))
    del files["baseline.json"]
    if not (wrong := differences(control.baseline.files, files)):
        return control
    missing = f"the statistics in {control.folder} are damaged: {'; '.join(wrong.values())}. Delete this folder"
    log.warning("%s: %s", control.name, missing)
    return Control(name=control.name, factor=control.factor, missing=missing)


def read_distances(folder: str, control: str) -> anomalies_pb2.Anomalies | None:
    """The distances to a control, or to `serving`; None where they were not measured."""
    path = Path(folder) / CONTROLS / control / example_validator.DEFAULT_FILE_NAME
    return anomalies_pb2.Anomalies.FromString(path.read_bytes()) if path.exists() else None


def read_statistics(folder: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """One split of a statistics artifact, or of a baseline."""
    path = Path(folder) / f"Split-{split}" / statistics_gen.DEFAULT_FILE_NAME
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())


def write_statistics(folder: str, split: str, found: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    path = Path(folder) / f"Split-{split}" / statistics_gen.DEFAULT_FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found.SerializeToString())


def read_anomalies(folder: str, split: str) -> anomalies_pb2.Anomalies:
    """One split of an anomalies artifact."""
    path = Path(folder) / f"Split-{split}" / example_validator.DEFAULT_FILE_NAME
    return anomalies_pb2.Anomalies.FromString(path.read_bytes())
