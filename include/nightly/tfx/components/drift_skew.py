"""Drift against each control, and skew between the splits and against serving, by TFDV's comparators in the schema."""

import json
import logging
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from nightly.io.atomic import write_atomically
from nightly.records.baseline import Control
from nightly.records.night import Night, SnapshotRef
from nightly.schemas.curated import override_thresholds, read_schema
from nightly.statistics.comparators import distances, write_distances
from nightly.statistics.files import CONTROLS, SERVING, TRAINING, intact, read_statistics, write_statistics
from nightly.statistics.serving import FILE as REQUESTS
from nightly.statistics.serving import compare

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
    compared = [intact(Control.parse(one, where="the controls of this run")) for one in json.loads(controls)]
    written = json.dumps([control.model_dump(mode="json") for control in compared])
    write_atomically(Path(anomalies.uri) / CONTROLS / "controls.json", written.encode())

    first = next((one for one in compared if one.folder), None)
    before = read_statistics(first.folder, "train") if first else None
    skew = distances(train, curated, before=before, factor=first.factor if first else 1, beside=held_out)
    write_distances(skew, Path(artifact_utils.get_split_uri([anomalies], "train")))
    for one in compared:
        if one.folder:
            found = distances(train, curated, before=read_statistics(one.folder, "train"), factor=one.factor)
            write_distances(found, Path(anomalies.uri) / CONTROLS / one.name)

    night = Night.load(Path(night_folder) / "request.json")
    snapshot = SnapshotRef.load(Path(night_folder) / "snapshot.json")
    about, served, trained = compare(night, curated, Path(predictions), Path(snapshot.path))
    about.save(Path(requests.uri) / REQUESTS)
    sides = {SERVING: served, TRAINING: trained} if not about.missing else {}
    requests.split_names = artifact_utils.encode_split_names(list(sides))
    for split, found in sides.items():
        write_statistics(requests.uri, split, found)
    if sides:
        write_distances(distances(trained, curated, beside=served), Path(anomalies.uri) / CONTROLS / SERVING)
    else:
        log.info("serving: %s", about.missing)
