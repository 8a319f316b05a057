"""The data gate: every reason not to train on this night's data, each with its value and threshold.

The checks are in include/nightly/checks.
"""

import logging
from pathlib import Path

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from nightly.baselines import accept, retain, withdraw
from nightly.checks import judge
from nightly.checks.evidence import Evidence
from nightly.checks.gathering import GateInputs, gather
from nightly.checks.schema_proposal import propose
from nightly.io.code import code_version
from nightly.io.files import hash_files
from nightly.io.paths import Paths
from nightly.records.baseline import Baseline
from nightly.records.labels import Labels
from nightly.records.night import GateResult, Night, SnapshotRef, utc_now
from nightly.records.release import ReleaseRecord
from nightly.records.schema import SchemaProposal
from nightly.records.thresholds import ThresholdsUsed
from nightly.schemas.curated import comparators, override_thresholds
from nightly.statistics.distributions import write_distributions, write_serving_distributions
from nightly.statistics.files import read_statistics
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
    """Judge the night's data. If it passes, keep its statistics as a baseline for later nights.

    Writes data_gate.json, and thresholds.json with the thresholds of both gates.

    :param drift_skew: DriftSkewValidator's distances, and the controls that they were measured against
    :param requests: DriftSkewValidator's statistics of the logged requests
    :param night_folder: the folder of request.json and snapshot.json
    """
    folder, paths = Path(night_folder), Paths.from_environment()
    night, ref = Night.load(folder / Night.FILE), SnapshotRef.load(folder / SnapshotRef.FILE)
    splits = artifact_utils.decode_split_names(anomalies.split_names)
    inputs = GateInputs(statistics.uri, schema.uri, anomalies.uri, drift_skew.uri, requests.uri, splits)
    evidence = gather(night, ref, inputs, paths)
    thresholds_used(evidence, inputs.schema_text).save(folder / ThresholdsUsed.FILE)
    reasons = list(judge(evidence))
    result = GateResult(gate="data", passed=not any(r.held for r in reasons), reasons=reasons, decided_at=utc_now())
    result.save(folder / GateResult.DATA_FILE)
    bless(blessing, result, log)
    write_distributions(folder, statistics.uri, drift_skew.uri)
    labels_of(evidence).save(folder / Labels.FILE)
    write_serving_distributions(folder, requests.uri, drift_skew.uri)
    (folder / SchemaProposal.FILE).unlink(missing_ok=True)
    if result.passed:
        accept_statistics(evidence, Path(statistics.uri), paths)
    else:
        withdraw(paths.baselines, night.model, night.run_id)
        propose_schema(evidence, inputs, folder)


def labels_of(evidence: Evidence) -> Labels:
    """Return the labels of the night beside those of its controls."""
    label = evidence.config.data.label
    beside = [
        (compared.control, baseline.summary(label, evidence.classes))
        for compared in evidence.present
        if (baseline := compared.control.baseline)
    ]
    return Labels.of(label, evidence.manifest.rows, evidence.label, beside)


def thresholds_used(evidence: Evidence, schema_text: str) -> ThresholdsUsed:
    """Return every threshold that the night is judged by, including its schema's."""
    night, schema = evidence.night, schema_pb2.Schema()
    schema.CopyFrom(evidence.schema)
    override_thresholds(schema, night.overrides)
    return ThresholdsUsed.of(
        evidence.config,
        comparators(schema),
        replaced=list(night.overrides),
        schema_version=night.schema_version,
        schema_text=schema_text,
        code_version=code_version(),
    )


def accept_statistics(evidence: Evidence, statistics: Path, paths: Paths) -> None:
    """Keep the night's statistics as a baseline, and remove old baselines that no release refers to."""
    night, manifest, labels = evidence.night, evidence.manifest, evidence.labels
    baseline = Baseline(
        model=night.model,
        run_id=night.run_id,
        as_of=night.as_of,
        snapshot_id=manifest.snapshot_id,
        accepted_at=utc_now(),
        rows=manifest.rows,
        label_column=labels.label_column,
        label_kind=labels.label_kind,
        label_counts=labels.label_counts,
        label_quantiles=labels.label_quantiles,
        label_by_value=evidence.label_by_value,
        positive=evidence.positive,
        files=hash_files(statistics),
    )
    accept(paths.baselines, baseline, statistics)
    records = [ReleaseRecord.load(path) for path in (paths.releases / night.model).glob("*.json")]
    released = {record.snapshot_id for record in records if record.state in ("released", "canary", "verifying")}
    retain(paths.baselines, night.model, evidence.config.retention.baselines, released)


def propose_schema(evidence: Evidence, inputs: GateInputs, folder: Path) -> None:
    """Write the schema change that would let the night pass, if there is one, into its folder."""
    measured = {split: read_statistics(inputs.statistics, split) for split in evidence.anomalies}
    if proposal := propose(evidence, measured, inputs.schema_text):
        proposal.save(folder / SchemaProposal.FILE)
        log.info("a change of the schema is proposed:\n%s", proposal.diff)
