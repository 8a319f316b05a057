"""Read and write statistics and anomalies in TFX's layout, and the controls that they were measured against."""

import json
import logging
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import executor as statistics_gen

from nightly.io.files import differences, hash_files
from nightly.records.baseline import Baseline, Control
from nightly.state import current, fetch
from nightly.state.errors import DamagedStateError

log = logging.getLogger("nightly")

CONTROLS = "controls"  # folder beside the splits: CONTROLS_FILE, and Anomalies for each control
CONTROLS_FILE = "controls.json"  # a list of Control
SERVING, TRAINING = "serving", "training"  # splits: logged requests, and the training rows of the same days


def read_controls(folder: str) -> list[Control]:
    """Return the controls of a DriftSkewValidator's anomalies artifact."""
    path = Path(folder) / CONTROLS / CONTROLS_FILE
    return [intact(Control.parse(entry, where=str(path))) for entry in json.loads(path.read_text())]


def intact(control: Control) -> Control:
    """Fetch the control's statistics. Return it, or a missing control with the reason if they are damaged."""
    if control.baseline is None:
        return control
    folder, expected = Path(control.folder), control.baseline.files
    try:
        fetch(folder)
        if expected is None:  # accepted by an older version
            return control
        changes = _changes(folder, expected)
        if changes and current().restore(folder):
            changes = _changes(folder, expected)
        if not changes:
            return control
        missing = f"the statistics in {folder} are damaged: {'; '.join(changes.values())}. Delete this folder"
    except DamagedStateError as error:
        missing = f"the statistics in {folder} are damaged in the bucket: {error}"
    log.warning("%s: %s", control.name, missing)
    return Control(name=control.name, factor=control.factor, missing=missing)


def _changes(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    files = hash_files(folder)
    files.pop(Baseline.FILE, None)
    return differences(expected, files)


def read_distances(folder: str, control: str) -> anomalies_pb2.Anomalies | None:
    """Return the distances to a control, or to `serving`; None if they were not measured."""
    path = Path(folder) / CONTROLS / control / example_validator.DEFAULT_FILE_NAME
    return anomalies_pb2.Anomalies.FromString(path.read_bytes()) if path.exists() else None


def read_statistics(folder: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Read a split of a statistics artifact or of a baseline."""
    path = Path(folder) / f"Split-{split}" / statistics_gen.DEFAULT_FILE_NAME
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())


def write_statistics(folder: str, split: str, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    path = Path(folder) / f"Split-{split}" / statistics_gen.DEFAULT_FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(statistics.SerializeToString())


def read_anomalies(folder: str, split: str) -> anomalies_pb2.Anomalies:
    """Read a split of an anomalies artifact."""
    path = Path(folder) / f"Split-{split}" / example_validator.DEFAULT_FILE_NAME
    return anomalies_pb2.Anomalies.FromString(path.read_bytes())
