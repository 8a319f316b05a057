"""The data gate: every reason why this night's data must not be trained on, each with figure and threshold."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from include.contracts.baseline import Baseline, accept, withdraw
from include.contracts.config import ModelConfig
from include.contracts.night import GateResult, Night, Reason, SnapshotRef, utc_now
from include.contracts.places import Places
from include.contracts.snapshot import SnapshotManifest
from include.pipeline.artifacts import DataBlessing
from include.pipeline.components.blessing import bless
from include.pipeline.components.drift_skew import read_anomalies, read_statistics

log = logging.getLogger("nightly")

DAY_SECONDS = 86_400


@component
def DataGate(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    drift_skew: InputArtifact[standard_artifacts.ExampleAnomalies],
    blessing: OutputArtifact[DataBlessing],
    night_folder: Parameter[str],
    baseline: Parameter[str],
) -> None:
    """Judge the night's data, write data_gate.json, and make the statistics the next night's baseline if they pass.

    :param night_folder: where request.json and snapshot.json are
    :param baseline: the folder that drift was measured against; "" where there was none
    """
    folder = Path(night_folder)
    night = Night.load(folder / "request.json")
    snapshot = SnapshotRef.load(folder / "snapshot.json")
    manifest = SnapshotManifest.load(Path(snapshot.path) / "manifest.json")
    config = night.config()
    compared_with = Baseline.load(Path(baseline) / "baseline.json") if baseline else None

    reasons = [*_about_rows(config, night, manifest), *_about_label(config, manifest)]
    reasons += _about_schema(anomalies)
    reasons += _about_distances(config, statistics, read_anomalies(drift_skew.uri, "train"), compared_with)
    result = GateResult(gate="data", passed=not any(r.held for r in reasons), reasons=reasons, decided_at=utc_now())
    result.save(folder / "data_gate.json")
    bless(blessing, result, log)
    places = Places.from_environment()
    if result.passed:
        accepted = Baseline(
            model=night.model,
            run_id=night.run_id,
            as_of=night.as_of,
            snapshot_id=manifest.snapshot_id,
            accepted_at=utc_now(),
        )
        accept(places.baselines, accepted, Path(statistics.uri))
    else:
        withdraw(places.baselines, night.model, night.run_id)


def _about_rows(config: ModelConfig, night: Night, manifest: SnapshotManifest) -> Iterator[Reason]:
    gate = config.data_gate
    yield Reason(
        check="min_rows",
        subject="",
        figure=manifest.rows,
        threshold=gate.min_rows,
        held=manifest.rows < gate.min_rows,
        message=f"the snapshot has {manifest.rows:,} rows; at least {gate.min_rows:,} are wanted",
        action="Look whether the source was complete; a longer look-back brings more rows.",
    )
    if manifest.last_row is not None:
        end = night.as_of.timestamp() - config.data.late_days * DAY_SECONDS
        age = (end - manifest.last_row.timestamp()) / DAY_SECONDS
        yield Reason(
            check="max_age_days",
            subject=config.data.time_column,
            figure=round(age, 2),
            threshold=gate.max_age_days,
            held=age > gate.max_age_days,
            message=f"the newest row is {age:.1f} days older than the window's end; {gate.max_age_days:g} are allowed",
            action="The source has stopped or is late: ask its owner.",
        )
    total = manifest.rows + manifest.rejected_rows
    if manifest.rejected_rows:
        share = manifest.rejected_rows / total
        worst = max(manifest.rejected, key=lambda count: count.rows)
        yield Reason(
            check="max_rejected_share",
            subject=worst.column,
            figure=round(share, 6),
            threshold=gate.max_rejected_share,
            held=share > gate.max_rejected_share,
            message=f"{manifest.rejected_rows:,} of {total:,} rows could not be read, "
            f"most for {worst.reason} (for example {worst.example!r})",
            action="They are kept in rejected.parquet in the night's folder, each with its reason.",
        )


def _about_label(config: ModelConfig, manifest: SnapshotManifest) -> Iterator[Reason]:
    label, gate = config.data.label, config.data_gate
    if label.column not in manifest.columns:
        yield Reason(
            check="label",
            subject=label.column,
            figure="missing",
            threshold="present",
            held=True,
            message=f"the label {label.column} is gone: the data has no such column",
            action="Nothing can be trained without it. Ask the source's owner, or configure another label.",
        )
        return
    recorded = {value: rows for value, rows in manifest.label_counts.items() if value}
    labelled = sum(recorded.values())
    share = labelled / manifest.rows if manifest.rows else 0.0
    yield Reason(
        check="min_label_share",
        subject=label.column,
        figure=round(share, 4),
        threshold=gate.min_label_share,
        held=share < gate.min_label_share,
        message=f"the label {label.column} is "
        + ("gone: not one row has it" if not labelled else f"recorded in {share:.1%} of the rows")
        + f"; at least {gate.min_label_share:.0%} are wanted",
        action="The source may have stopped recording it: train on an earlier as-of date, or configure another label.",
    )
    positive = sum(rows for value, rows in recorded.items() if value in label.positive)
    if labelled and positive in (0, labelled):
        yield Reason(
            check="constant_label",
            subject=label.column,
            figure=f"{positive / labelled:.0%} positive",
            threshold="both classes",
            held=True,
            message=f"every recorded {label.column} is {'positive' if positive else 'negative'}: nothing to learn",
            action=f"Positive are configured as {', '.join(label.positive)}; found: {', '.join(sorted(recorded)[:5])}.",
        )


def _about_schema(anomalies: standard_artifacts.ExampleAnomalies) -> Iterator[Reason]:
    """ExampleValidator's findings; the same one in both splits is one finding."""
    seen = set()
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        found = read_anomalies(anomalies.uri, split)
        if found.data_missing:
            yield Reason(
                check="schema",
                subject=f"{split} split",
                figure=0,
                threshold=None,
                held=True,
                message=f"the {split} split has no examples",
                action="There are no labelled rows for it in the snapshot.",
            )
        infos = dict(found.anomaly_info)
        if found.HasField("dataset_anomaly_info"):
            infos["the data set"] = found.dataset_anomaly_info
        for feature, info in sorted(infos.items()):
            if (feature, info.description) in seen:
                continue
            seen.add((feature, info.description))
            yield Reason(
                check="schema",
                subject=feature,
                figure=info.short_description,
                threshold="the curated schema",
                held=info.severity == anomalies_pb2.AnomalyInfo.ERROR,
                message=f"{feature}: {info.description}",
                action="If the data is right, change the curated schema; if not, ask the source's owner.",
            )


def _about_distances(
    config: ModelConfig,
    statistics: standard_artifacts.ExampleStatistics,
    measured: anomalies_pb2.Anomalies,
    compared_with: Baseline | None,
) -> Iterator[Reason]:
    if compared_with is None:
        yield Reason(
            check="drift",
            subject="",
            figure=None,
            threshold=None,
            held=False,
            message="drift was not measured: no snapshot from before this night has been accepted yet",
        )
    enough = config.data_gate.min_rows_for_distance
    smallest = min(read_statistics(statistics.uri, s).datasets[0].num_examples for s in ("train", "eval"))
    for info in measured.drift_skew_info:
        name = ".".join(info.path.step)
        against = {
            "drift": f"the snapshot accepted for {compared_with.as_of:%Y-%m-%d}" if compared_with else "",
            "skew": "the eval split",
        }
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for distance in measurements:
                beyond = distance.value > distance.threshold
                small = smallest < enough
                yield Reason(
                    check=kind,
                    subject=name,
                    figure=round(distance.value, 5),
                    threshold=round(distance.threshold, 5),
                    held=beyond and not small,
                    message=f"{name} is {distance.value:.3f} away from {against[kind]}; "
                    f"the schema allows {distance.threshold:.3f}"
                    + (f" (not judged: a split has fewer than {enough} examples)" if beyond and small else ""),
                    action=f"Compare the two distributions of {name}; if the change is real and wanted, "
                    f"run again with the threshold {kind}.{name} and a reason.",
                )
