"""Gather the checks' evidence from the night's artifacts and from earlier nights."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nightly.baselines import rows_accepted
from nightly.checks.evidence import Compared, Evidence, Measured, Served, SnapshotRows
from nightly.io.paths import Paths
from nightly.models import config_of
from nightly.records.baseline import Control
from nightly.records.night import Night, SnapshotRef
from nightly.schemas.curated import read_schema
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.snapshots.verification import verify_snapshot
from nightly.statistics.files import SERVING, TRAINING, read_anomalies, read_controls, read_distances, read_statistics
from nightly.statistics.serving import read_requests

log = logging.getLogger("nightly")


@dataclass(frozen=True)
class GateInputs:
    """The folders of the data gate's input artifacts."""

    statistics: str
    schema: str
    anomalies: str
    drift_skew: str  # DriftSkewValidator's distances and controls
    requests: str  # DriftSkewValidator's statistics of logged requests
    splits: Sequence[str]  # of the anomalies

    @property
    def schema_text(self) -> str:
        return (Path(self.schema) / "schema.pbtxt").read_text()


def gather(night: Night, ref: SnapshotRef, inputs: GateInputs, paths: Paths) -> Evidence:
    """Read the evidence from disk. Raises DamagedSnapshotError, SchemaError."""
    snapshot = Path(ref.path)
    return Evidence(
        config=config_of(night),
        night=night,
        manifest=verify_snapshot(snapshot),
        delivery=ref.delivery,
        schema=read_schema(Path(inputs.schema)),
        rows=SnapshotRows(snapshot),
        train=_measured(inputs.statistics, "train"),
        eval=_measured(inputs.statistics, "eval"),
        anomalies={split: read_anomalies(inputs.anomalies, split) for split in inputs.splits},
        skew=read_anomalies(inputs.drift_skew, "train"),
        compared=[_compared(control, inputs, paths) for control in read_controls(inputs.drift_skew)],
        serving=_served(inputs),
        rows_accepted=rows_accepted(paths.baselines, night),
    )


def _measured(folder: str, split: str) -> Measured:
    return Measured.of(read_statistics(folder, split))


def _compared(control: Control, inputs: GateInputs, paths: Paths) -> Compared:
    return Compared(
        control,
        _measured(control.folder, "train") if control.folder else None,
        read_distances(inputs.drift_skew, control.name),
        _rows_of(control, paths),
        _measured(control.folder, "eval") if control.folder else None,
    )


def _rows_of(control: Control, paths: Paths) -> SnapshotRows | None:
    """Return the rows of a control's snapshot; None if it was removed or is damaged."""
    if control.baseline is None:
        return None
    folder = paths.snapshots / control.baseline.model / control.baseline.snapshot_id
    if not folder.is_dir():
        return None
    try:
        verify_snapshot(folder)
    except DamagedSnapshotError as error:
        log.warning("the rows of %s are not compared: %s", control.title, error)
        return None
    return SnapshotRows(folder)


def _served(inputs: GateInputs) -> Served:
    about = read_requests(Path(inputs.requests))
    if about.missing:
        return Served(about)
    sides = (_measured(inputs.requests, split) for split in (SERVING, TRAINING))
    return Served(about, *sides, read_distances(inputs.drift_skew, SERVING))
