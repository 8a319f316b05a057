"""Nights of real rows with planted faults: ingested, measured and judged by the real functions, without a pipeline."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv

from nightly.checks import judge
from nightly.checks.evidence import Compared, Evidence, Measured, Served, SnapshotRows
from nightly.examples.days import first_eval_day, rows_by_day
from nightly.examples.encoding import Encoding, as_lists
from nightly.models import load_config
from nightly.records.baseline import Baseline, Control
from nightly.records.config import ModelConfig
from nightly.records.night import Night, Reason, SnapshotRef
from nightly.records.snapshot import CountedLabels, SnapshotManifest
from nightly.records.source_config import FilesSource
from nightly.schemas.curated import override_thresholds, read_schema, recorded_classes
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from nightly.statistics.comparators import distances
from nightly.statistics.measure import statistics_of
from nightly.statistics.serving import compare
from tests.support.data import COMPLAINTS, TAXI
from tests.support.nights import a_night

Fault = Callable[[pd.DataFrame], pd.DataFrame]


def source_rows(model: str) -> pd.DataFrame:
    """Every row of the model's real data, as text."""
    return pd.read_csv(TAXI if model == "taxi" else COMPLAINTS, dtype=str, keep_default_na=False)


def days_of(rows: pd.DataFrame) -> pd.Series:
    """The moment of each row."""
    if "trip_start_timestamp" in rows:
        return pd.to_datetime(rows.trip_start_timestamp.astype(int), unit="s")
    return pd.to_datetime(rows["Date received"], format="%m/%d/%Y")


class Judged:
    """A night's findings, and itself as a control of others."""

    def __init__(self, evidence: Evidence, statistics, release_folder: Path) -> None:
        self.evidence, self.statistics, self.train = evidence, statistics, statistics["train"]
        self.as_of = evidence.night.as_of
        self.reasons = list(judge(evidence))

    @property
    def held(self) -> set[tuple[str, str]]:
        return {(reason.check, reason.subject) for reason in self.reasons if reason.held}

    def reason(self, check: str, subject: str = "", control: str | None = None) -> Reason:
        return next(
            r for r in self.reasons if (r.check, r.subject) == (check, subject) and control in (None, r.control)
        )

    def baseline(self) -> Baseline:
        manifest = self.evidence.manifest
        return Baseline(
            model=manifest.model,
            run_id=f"{self.as_of}",
            as_of=self.as_of,
            snapshot_id=manifest.snapshot_id,
            accepted_at=self.as_of,
            rows=manifest.rows,
            **self.evidence.labels.model_dump(include=set(CountedLabels.model_fields)),
            label_by_value=self.evidence.label_by_value,
            positive=self.evidence.positive,
        )


def judge_night(
    model: str,
    as_of: str,
    folder: Path,
    *,
    rows: pd.DataFrame | None = None,
    fault: Fault = lambda rows: rows,
    controls: dict[str, Judged] | None = None,
    overrides: dict | None = None,
    predictions: Path = Path("nowhere"),
    schema: Path | None = None,
    config: ModelConfig | None = None,
) -> Judged:
    """Judge the night of `as_of` whose source has `rows` with `fault` planted in those of its window.

    Raises what ingestion raises.
    """
    config = (config or load_config(model)).with_overrides(overrides or {})
    end = dt.datetime.fromisoformat(as_of).replace(tzinfo=dt.UTC)
    start, until = config.data.window_start(end), end - dt.timedelta(days=config.data.late_days)
    rows = source_rows(model) if rows is None else rows
    times = days_of(rows).dt.tz_localize("UTC")
    folder.mkdir(parents=True, exist_ok=True)
    body = folder / "body.csv"
    fault(rows[(times >= start) & (times < until)].copy()).to_csv(body, index=False, errors="surrogateescape")
    night = a_night(
        model=model, run_id=f"night {as_of}", as_of=end, window_start=start, release=False, overrides=overrides or {}
    )
    download = fetch(FilesSource(path=str(body)), window_start=start, window_end=until, folder=folder)
    ref = ingest(config, night, download, SnapshotStore(folder / "snapshots", model), folder=folder, schema=schema)
    return measure(config, night, ref, controls or {}, predictions, schema)


def measure(
    config,
    night: Night,
    ref: SnapshotRef,
    controls: dict[str, Judged],
    predictions: Path,
    schema_file: Path | None = None,
) -> Judged:
    """Statistics, distances and findings, as the pipeline's nodes have them."""
    snapshot = Path(ref.path)
    manifest = SnapshotManifest.load(snapshot / "manifest.json")
    schema = read_schema(schema_file or config.folder)
    override_thresholds(schema, night.overrides)
    batch = pq.read_table(sorted(snapshot.glob("rows-*.parquet"))).combine_chunks().to_batches()[0]
    data = config.data
    columns = [name for name in manifest.columns if name not in data.ignore]
    encoding = Encoding(columns, data.id_columns or list(manifest.columns), data.label.column, data.eval_percent)
    if data.eval == "newest":
        by_day = rows_by_day(snapshot, data.label.column, data.time_column, recorded_classes(schema, data.label))
        encoding = encoding._replace(time_column=data.time_column, eval_from=first_eval_day(by_day, data.eval_percent))
    statistics = {split: statistics_of(iter([as_lists(part)])) for split, part in encoding.sides(batch).items()}
    factors = config.data_gate.controls
    compared = []
    for name, factor in factors.items():
        if name not in controls:
            compared.append(Compared(Control(name=name, factor=factor, missing="this trial has none")))
            continue
        other = controls[name]
        control = Control(name=name, factor=factor, folder="trial", baseline=other.baseline())
        found = distances(statistics["train"], schema, before=other.train, factor=factor)
        compared.append(Compared(control, Measured.of(other.train), found, other.evidence.rows, other.evidence.eval))
    about, asked, trained = compare(night, schema, predictions, snapshot)
    served = Served(about)
    if not about.missing:
        served = Served(about, Measured.of(asked), Measured.of(trained), distances(trained, schema, beside=asked))
    evidence = Evidence(
        config=config,
        night=night,
        manifest=manifest,
        delivery=ref.delivery,
        schema=schema,
        rows=SnapshotRows(snapshot),
        train=Measured.of(statistics["train"]),
        eval=Measured.of(statistics["eval"]),
        anomalies={split: tfdv.validate_statistics(found, schema) for split, found in statistics.items()},
        skew=distances(statistics["train"], schema, beside=statistics["eval"]),
        compared=compared,
        serving=served,
        rows_accepted=[other.evidence.manifest.rows for other in controls.values()],
    )
    return Judged(evidence, statistics, snapshot)
