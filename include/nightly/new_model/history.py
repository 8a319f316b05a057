"""Measure a new model's thresholds: run the data gate's checks on past windows, and see how much they differ anyway.

The windows end some days apart. Each is compared with the one before, with one of four to eight weeks before, and with
one of a year before, as nights are, where there are such windows. The rule for a threshold: the largest distance that
the windows have, divided by the control's factor, times 1.5 (nightly.nights.replay.suggest, with that margin). It is
never tighter than half of the default, since a few windows do not show all that is usual.
"""

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from nightly.checks import judge
from nightly.checks.evidence import Compared, Evidence, Measured, SnapshotRows
from nightly.data.schemas import THRESHOLDS
from nightly.examples.days import first_eval_day, rows_by_day
from nightly.examples.encoding import SPLITS, Encoding, as_lists, row_groups
from nightly.io.files import hash_file
from nightly.new_model.tables import Table
from nightly.new_model.windows import Window
from nightly.nights.history import NightFindings
from nightly.nights.replay import Thresholds, suggest
from nightly.records.baseline import Baseline, Control
from nightly.records.config import ModelConfig
from nightly.records.data_gate_config import ControlName, DataGate
from nightly.records.night import Download, DownloadedFile, GateResult, Night, utc_now
from nightly.schemas.curated import comparators, read_schema, recorded_classes
from nightly.schemas.features import sized_features
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.verification import verify_snapshot
from nightly.statistics.comparators import distances
from nightly.statistics.measure import statistics_of

MOST_WINDOWS = 6  # compared with the one before
FEWEST_WINDOWS = 3
MARGIN = 1.5
TIGHTEST = 0.5  # of the default
MIN_ROWS = 300  # of a window
SAMPLE_ROWS = 40_000  # rows of all windows that are measured
FARTHEST_APART = 28  # days between two windows
WEEKS_BEFORE = (28, 60)  # days, as of the control same_weekday
YEAR = 364
ROW_COUNTS = ("data_gate.min_rows",)  # thresholds that count rows, of which only a sample is measured
# Thresholds that say what data must be like on any day. They keep their defaults, or what proposal.py derives.
NOT_MEASURED = tuple(
    f"data_gate.{key}" for key in ("max_age_days", "max_rejected_share", "max_duplicate_share", "min_label_share")
)


@dataclass(frozen=True)
class History:
    """What past windows say.

    :ivar thresholds: "data_gate.KEY", "drift.FEATURE" or "skew.FEATURE" -> threshold
    :ivar lowest_presence: feature -> the smallest share of rows with a value
    :ivar measured: a sentence on how the thresholds were measured; "" if they were not
    :ivar missing: why they were not measured
    """

    thresholds: dict[str, float] = field(default_factory=dict)
    lowest_presence: dict[str, float] = field(default_factory=dict)
    measured: str = ""
    missing: str = ""


@dataclass(frozen=True)
class _Past:
    """A past window: its evidence, and its statistics by split."""

    evidence: Evidence
    statistics: dict[str, statistics_pb2.DatasetFeatureStatisticsList]
    night: Night


def ends_of(window: Window) -> list[dt.datetime]:
    """Return the ends of the windows, the oldest first; [] if the data is too short."""
    spare = window.range_days - window.look_back_days
    windows = min(MOST_WINDOWS, spare)
    if windows < FEWEST_WINDOWS:
        return []
    step = min(spare // windows, FARTHEST_APART)
    return [window.end - dt.timedelta(days=step * n) for n in range(windows, -1, -1)]


def measure(config: ModelConfig, schema: Path, table: Table, window: Window, folder: Path) -> History:
    """Return the thresholds of past windows.

    :param schema: the curated schema's file
    :param folder: for snapshots of the windows; the caller removes it
    """
    ends = ends_of(window)
    if not ends:
        return History(
            missing=f"the data has {window.range_days} days, and a window {window.look_back_days}: "
            f"fewer than {FEWEST_WINDOWS} other windows"
        )
    measuring = _Measuring(config, schema, table, folder)
    pasts = [past for end in ends if (past := measuring.past(end, window.look_back_days))]
    if len(pasts) <= FEWEST_WINDOWS:
        return History(missing=f"most past windows have under {MIN_ROWS} rows")
    nights = [measuring.judged(past, before, "last_accepted") for before, past in itertools.pairwise(pasts)]
    nights += [
        measuring.judged(past, before, "same_weekday")
        for before, past in itertools.combinations(pasts, 2)
        if WEEKS_BEFORE[0] <= (past.night.as_of - before.night.as_of).days <= WEEKS_BEFORE[1]
    ]
    if window.range_days >= window.look_back_days + YEAR:
        season = measuring.past(window.end - dt.timedelta(days=YEAR), window.look_back_days)
        nights += [measuring.judged(pasts[-1], season, "same_season")] if season else []
    curated = read_schema(schema)
    own = Thresholds(config, comparators(curated))
    suggested = suggest(nights, own, margin=MARGIN, enough=FEWEST_WINDOWS)
    step = (ends[1] - ends[0]).days
    thresholds = {
        key: _bounded(key, value, curated, table.rows / measuring.rows) for key, (value, _) in suggested.items()
    }
    return History(
        thresholds={key: value for key, value in thresholds.items() if value is not None},
        lowest_presence=_lowest_presence(pasts),
        measured=f"measured over {len(pasts) - 1} windows of {window.look_back_days} days, {step} days apart"
        + (f", in a sample of {measuring.rows:,} rows" if measuring.rows < table.rows else ""),
    )


def _bounded(key: str, value: float, schema: schema_pb2.Schema, rows_a_row: float) -> float | None:
    """Return the threshold within what makes sense; None to keep the default."""
    section, _, name = key.partition(".")
    if key in NOT_MEASURED:
        return None
    if key in ROW_COUNTS:
        return max(int(value * rows_a_row), 1)
    if section == "data_gate":
        default = getattr(DataGate(), name)
        if name.startswith("min_"):
            return min(value, default)
        if isinstance(default, int) and name in ("max_missing_days", "max_doubled_days", "max_new_classes"):
            return value
        least = 1 + TIGHTEST * (default - 1) if name.endswith("_factor") else TIGHTEST * default
        return float(f"{max(value, least):.2g}")
    feature = next(feature for feature in schema.feature if feature.name == name)
    of_text, of_numbers = THRESHOLDS["drift" if section == "drift" else "skew"]
    default = of_text if feature.type == schema_pb2.BYTES else of_numbers
    # Chance parts the splits of another night further, so the bound of skew is never below its default.
    least = default if section == "skew" else TIGHTEST * default
    return min(float(f"{max(value, least):.2g}"), 1.0)


def _lowest_presence(pasts: list[_Past]) -> dict[str, float]:
    lowest: dict[str, float] = {}
    for past in pasts:
        for side in (past.evidence.train, past.evidence.eval):
            for name, feature in side.features.items():
                common = getattr(feature, feature.WhichOneof("stats")).common_stats
                share = common.num_non_missing / max(side.examples, 1)
                lowest[name] = min(share, lowest.get(name, 1.0))
    return lowest


class _Measuring:
    """Snapshots and statistics of windows of a table's sample, as nights would have them."""

    def __init__(self, config: ModelConfig, schema: Path, table: Table, folder: Path) -> None:
        self._config, self._schema_path, self._schema = config, schema, read_schema(schema)
        self._sized = sized_features(self._schema)
        self._store = SnapshotStore(folder / "snapshots", config.name)
        self._folder = folder
        rows = _thinned(table)
        self.rows = rows.num_rows
        body = folder / "sample.parquet"
        pq.write_table(rows, body)
        start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        file = DownloadedFile(path=str(body), bytes=body.stat().st_size, sha256=hash_file(body), origin=str(body))
        self._download = Download(kind="files", files=[file], window_start=start, window_end=start, fetched_at=start)

    def past(self, end: dt.datetime, look_back_days: int) -> _Past | None:
        """Return the window that ends at `end`; None if it has few rows."""
        config = self._config
        night = Night(
            model=config.name,
            run_id=f"window__{end:%Y%m%d}",
            trigger="command",
            requested_by="bin/new",
            as_of=end,
            window_start=end - dt.timedelta(days=look_back_days),
            release=False,
            train_steps=1,
            code_version="",
            planned_at=end,
        )
        folder = self._folder / night.run_id
        folder.mkdir(exist_ok=True)
        ref = ingest(config, night, self._download, self._store, folder=folder, schema=self._schema_path)
        if ref.rows < MIN_ROWS:
            return None
        snapshot = Path(ref.path)
        sides = self._statistics(snapshot)
        train = sides["train"]
        evidence = Evidence(
            config=config,
            night=night,
            manifest=verify_snapshot(snapshot),
            delivery=ref.delivery,
            schema=self._schema,
            rows=SnapshotRows(snapshot),
            train=Measured.of(train),
            eval=Measured.of(sides["eval"]),
            anomalies={
                split: tfdv.validate_statistics(side, self._schema, environment="TRAINING")
                for split, side in sides.items()
            },
            skew=distances(train, self._schema, beside=sides["eval"]),
        )
        return _Past(evidence, sides, night)

    def judged(self, past: _Past, before: _Past, control: ControlName) -> NightFindings:
        """Return the data gate's findings on a window that is compared with an earlier one."""
        factor = self._config.data_gate.controls[control]
        drift = distances(past.statistics["train"], self._schema, before=before.statistics["train"], factor=factor)
        earlier = before.evidence
        baseline = Baseline(
            model=self._config.name,
            run_id=before.night.run_id,
            as_of=before.night.as_of,
            snapshot_id=earlier.manifest.snapshot_id,
            accepted_at=utc_now(),
            rows=earlier.manifest.rows,
            label_column=earlier.labels.label_column,
            label_kind=earlier.labels.label_kind,
            label_counts=earlier.labels.label_counts,
            label_quantiles=earlier.labels.label_quantiles,
            label_by_value=earlier.label_by_value,
            positive=earlier.positive,
        )
        compared = Compared(
            Control(name=control, factor=factor, folder="-", baseline=baseline),
            earlier.train,
            drift,
            earlier.rows,
            earlier.eval,
        )
        evidence = replace(past.evidence, compared=[compared], rows_accepted=[earlier.manifest.rows])
        reasons = list(judge(evidence))
        # What is measured is how windows differ that nobody held, so all count as passed.
        return NightFindings(past.night, GateResult(gate="data", passed=True, reasons=reasons, decided_at=utc_now()))

    def _statistics(self, snapshot: Path) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
        data = self._config.data
        manifest = verify_snapshot(snapshot)
        columns = [feature.name for feature in self._schema.feature if feature.name in manifest.columns]
        classes = recorded_classes(self._schema, data.label)
        newest = data.eval == "newest"
        by_day = rows_by_day(snapshot, data.label.column, data.time_column, classes) if newest else {}
        encoding = Encoding(
            columns,
            data.id_columns or sorted(manifest.columns),
            data.label.column,
            data.eval_percent,
            data.time_column if by_day else "",
            first_eval_day(by_day, data.eval_percent) if by_day else None,
        )

        def rows(split: str) -> Iterator[pa.RecordBatch]:
            for group in row_groups(snapshot):
                for batch in group.batches():
                    yield as_lists(encoding.sides(batch)[split])

        return {split: statistics_of(rows(split), self._sized) for split in SPLITS}


def _thinned(table: Table) -> pa.Table:
    """Return at most SAMPLE_ROWS of the sample, evenly, with lists as lists."""
    rows = table.sample
    for number, name in enumerate(rows.schema.names):
        if not table.columns[name].is_single:
            rows = rows.set_column(number, name, table.columns[name].texts)
    step = -(-rows.num_rows // SAMPLE_ROWS)
    return rows if step == 1 else rows.take(list(range(0, rows.num_rows, step)))
