"""The data gate: every reason why this night's data must not be trained on, each with figure and threshold.

What is looked at is in include/nightly/checks.
"""

import logging
from pathlib import Path

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from nightly.baselines import accept, retain, rows_accepted, withdraw
from nightly.checks import judge
from nightly.checks.evidence import Compared, Evidence, Measured, Served, SnapshotRows
from nightly.checks.schema_proposal import propose
from nightly.io.code import code_version
from nightly.io.files import hash_files
from nightly.io.paths import Places
from nightly.models import config_of
from nightly.records.baseline import Baseline, Control
from nightly.records.night import GateResult, Night, SnapshotRef, utc_now
from nightly.records.release import ReleaseRecord
from nightly.records.schema import PROPOSAL
from nightly.records.thresholds import FILE as THRESHOLDS
from nightly.records.thresholds import ThresholdsUsed
from nightly.schemas.curated import comparators, override_thresholds, read_schema
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.snapshots.whole import verified
from nightly.statistics.distributions import write_distributions, write_serving_distributions
from nightly.statistics.files import SERVING, TRAINING, read_anomalies, read_controls, read_distances, read_statistics
from nightly.statistics.serving import read_requests
from nightly.tfx.artifacts import DataBlessing
from nightly.tfx.components.blessing import bless

log = logging.getLogger("nightly")


@component
def DataGate(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    drift_skew: InputArtifact[standard_artifacts.ExampleAnomalies],
    requests: InputArtifact[standard_artifacts.ExampleStatistics],
    blessing: OutputArtifact[DataBlessing],
    night_folder: Parameter[str],
) -> None:
    """Judge the night's data, and make the statistics a control of later nights if they pass.

    Writes data_gate.json, and thresholds.json: what it and the model gate judge by.

    :param drift_skew: of the DriftSkewValidator, which says what it measured against
    :param requests: of the same, what production was asked
    :param night_folder: where request.json and snapshot.json are
    """
    folder, places = Path(night_folder), Places.from_environment()
    night = Night.load(folder / "request.json")
    ref = SnapshotRef.load(folder / "snapshot.json")
    snapshot = Path(ref.path)
    manifest = verified(snapshot)
    controls = read_controls(drift_skew.uri)
    evidence = Evidence(
        config=config_of(night),
        night=night,
        manifest=manifest,
        delivery=ref.delivery,
        schema=read_schema(Path(schema.uri)),
        rows=SnapshotRows(snapshot),
        train=Measured.of(read_statistics(statistics.uri, "train")),
        eval=Measured.of(read_statistics(statistics.uri, "eval")),
        anomalies={
            split: read_anomalies(anomalies.uri, split)
            for split in artifact_utils.decode_split_names(anomalies.split_names)
        },
        skew=read_anomalies(drift_skew.uri, "train"),
        compared=[
            Compared(
                control,
                Measured.of(read_statistics(control.folder, "train")) if control.folder else None,
                read_distances(drift_skew.uri, control.name),
                _rows_of(control, places),
            )
            for control in controls
        ],
        serving=_served(requests.uri, drift_skew.uri),
        rows_accepted=rows_accepted(places.baselines, night),
    )
    used = schema_pb2.Schema()
    used.CopyFrom(evidence.schema)
    override_thresholds(used, night.overrides)
    ThresholdsUsed.of(
        evidence.config,
        comparators(used),
        replaced=list(night.overrides),
        schema_version=night.schema_version,
        schema_text=(Path(schema.uri) / "schema.pbtxt").read_text(),
        code_version=code_version(),
    ).save(folder / THRESHOLDS)
    reasons = list(judge(evidence))
    result = GateResult(gate="data", passed=not any(r.held for r in reasons), reasons=reasons, decided_at=utc_now())
    result.save(folder / "data_gate.json")
    (folder / PROPOSAL).unlink(missing_ok=True)
    bless(blessing, result, log)
    write_distributions(folder, statistics.uri, drift_skew.uri)
    write_serving_distributions(folder, requests.uri, drift_skew.uri)
    if not result.passed:
        withdraw(places.baselines, night.model, night.run_id)
        measured = {split: read_statistics(statistics.uri, split) for split in evidence.anomalies}
        proposal = propose(evidence, measured, (Path(schema.uri) / "schema.pbtxt").read_text())
        if proposal:
            proposal.save(folder / PROPOSAL)
            log.info("a change of the schema is proposed:\n%s", proposal.diff)
        return
    accepted = Baseline(
        model=night.model,
        run_id=night.run_id,
        as_of=night.as_of,
        snapshot_id=manifest.snapshot_id,
        accepted_at=utc_now(),
        rows=manifest.rows,
        label_counts=manifest.label_counts,
        label_by_value=evidence.label_by_value,
        files=hash_files(Path(statistics.uri)),
    )
    accept(places.baselines, accepted, Path(statistics.uri))
    records = [ReleaseRecord.load(path) for path in (places.releases / night.model).glob("*.json")]
    released = {record.snapshot_id for record in records if record.state in ("released", "canary", "verifying")}
    retain(places.baselines, night.model, evidence.config.retention.baselines, released)


def _rows_of(control: Control, places: Places) -> SnapshotRows | None:
    """The rows of a control's snapshot; None where retention has removed it, or it is damaged."""
    if control.baseline is None:
        return None
    folder = places.snapshots / control.baseline.model / control.baseline.snapshot_id
    if not folder.is_dir():
        return None
    try:
        verified(folder)
    except DamagedSnapshotError as error:
        log.warning("the rows of %s are not compared: %s", control.title, error)
        return None
    return SnapshotRows(folder)


def _served(requests: str, drift_skew: str) -> Served:
    about = read_requests(Path(requests))
    if about.missing:
        return Served(about)
    sides = (Measured.of(read_statistics(requests, split)) for split in (SERVING, TRAINING))
    return Served(about, *sides, read_distances(drift_skew, SERVING))
