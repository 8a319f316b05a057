"""Measure drift against each control, and skew between splits and against serving, by the schema's comparators."""

import json
import logging
from pathlib import Path

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import Artifact, artifact_utils, standard_artifacts

from nightly.io.atomic import write_atomically
from nightly.records.baseline import Control
from nightly.records.night import Night, SnapshotRef
from nightly.schemas.curated import override_thresholds, read_schema
from nightly.statistics.comparators import distances, write_distances
from nightly.statistics.files import (
    CONTROLS,
    CONTROLS_FILE,
    SERVING,
    TRAINING,
    intact,
    read_statistics,
    write_statistics,
)
from nightly.statistics.serving import Requests, compare

log = logging.getLogger("nightly")


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

    Writes TFDV's Anomalies, whose drift_skew_info holds each distance with its threshold:

    - Split-train: the skew against the eval split, and the drift against the first control
    - controls/<name>: the drift against that control
    - controls/serving: the skew between logged requests and the training rows of the same days

    Writes the statistics of these requests (Split-serving) and training rows (Split-training) to `requests`. Without
    requests it has no split, and its record tells why.

    :param controls: JSON list of Control
    :param thresholds: JSON {"drift.FEATURE" or "skew.FEATURE": threshold} that replaces the schema's in this run
    :param predictions: the folder where clients log their requests
    :param night_folder: the folder of request.json and snapshot.json
    """
    anomalies.split_names = artifact_utils.encode_split_names(["train"])
    curated = read_schema(Path(schema.uri))
    override_thresholds(curated, json.loads(thresholds))
    train, held_out = (read_statistics(statistics.uri, split) for split in ("train", "eval"))
    intact_controls = [intact(Control.parse(entry, where="the controls of this run")) for entry in json.loads(controls)]
    text = json.dumps([control.model_dump(mode="json") for control in intact_controls])
    write_atomically(Path(anomalies.uri) / CONTROLS / CONTROLS_FILE, text.encode())

    first = next((control for control in intact_controls if control.folder), None)
    before = read_statistics(first.folder, "train") if first else None
    skew = distances(train, curated, before=before, factor=first.factor if first else 1, beside=held_out)
    write_distances(skew, Path(artifact_utils.get_split_uri([anomalies], "train")))
    for control in intact_controls:
        if control.folder:
            before = read_statistics(control.folder, "train")
            drift = distances(train, curated, before=before, factor=control.factor)
            write_distances(drift, Path(anomalies.uri) / CONTROLS / control.name)

    _measure_requests(
        Path(night_folder), curated, Path(predictions), requests, Path(anomalies.uri) / CONTROLS / SERVING
    )


def _measure_requests(
    night_folder: Path, curated: schema_pb2.Schema, predictions: Path, requests: Artifact, distances_folder: Path
) -> None:
    """Write the statistics of logged requests and of the training rows of the same days, and their distances."""
    night = Night.load(night_folder / Night.FILE)
    snapshot = SnapshotRef.load(night_folder / SnapshotRef.FILE)
    about, served, trained = compare(night, curated, predictions, Path(snapshot.path))
    about.save(Path(requests.uri) / Requests.FILE)
    sides = {SERVING: served, TRAINING: trained} if not about.missing else {}
    requests.split_names = artifact_utils.encode_split_names(list(sides))
    for split, side in sides.items():
        write_statistics(requests.uri, split, side)
    if sides:
        write_distances(distances(trained, curated, beside=served), distances_folder)
    else:
        log.info("serving: %s", about.missing)
