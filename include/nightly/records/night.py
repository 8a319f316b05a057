"""One night: what was asked for, and what each step found. A night's folder holds one JSON file for each.

request.json     Night         what is to be done, fixed before anything is done
download.json    Download      the bodies that came
snapshot.json    SnapshotRef   the snapshot that this night uses
data_gate.json   GateResult
model_gate.json  GateResult
release.json     ReleaseRecord (include/nightly/records/release.py)
verdict.json     Verdict       (include/nightly/records/verdict.py)
schema_*.json    a proposed change of the schema, and the answer (include/nightly/records/schema.py)
<task>.error.json  StepError   why that task failed, when it did
<task>.reuse.json  Reuse       whether it took over earlier work (include/nightly/records/reuse.py)
"""

import datetime as dt
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime

from nightly.io.paths import Places
from nightly.records.base import Contract
from nightly.records.snapshot import Delivery

Trigger = Literal["scheduled", "manual", "backfill", "command"]


class Night(Contract):
    """What one run is asked to do. Written by the plan step; every later step reads this and nothing else."""

    model: str
    run_id: str  # the orchestrator's
    trigger: Trigger
    requested_by: str
    as_of: AwareDatetime  # the window's end, exclusive: the night knows nothing later
    window_start: AwareDatetime  # inclusive
    release: bool  # may it release
    train_steps: int
    fresh: bool = False  # compute everything anew, whatever an earlier night has done already
    overrides: dict[str, Any] = {}  # thresholds for this run only, e.g. {"data_gate.min_rows": 100}
    override_reason: str = ""
    code_version: str  # git commit of the project, with `+changes` when the tree differs
    production_version: int | None = None  # the model gate's baseline; as planned, or as it became meanwhile
    production_note: str = ""  # that another version came into production after the night was planned
    damaged_version: int | None = None  # in production, and no baseline: its files are damaged, and have no whole copy
    damage: str = ""  # what was wrong with the files in production, and what was done about it
    schema_version: int = 0  # of nightly.schemas.store; an approved schema review moves it on. 0: the curated one
    schema_note: str = ""  # who approved it and why, or what the curated one has superseded
    run_url: str = ""  # the run in the Airflow UI
    planned_at: AwareDatetime

    def folder(self, places: Places) -> Path:
        return places.night(self.model, self.run_id)

    @property
    def in_production(self) -> int | None:
        """The version that callers get, whether the model gate can compare with it or not."""
        return self.damaged_version if self.production_version is None else self.production_version


class StepError(Contract):
    """Why a task failed, in its own words, for the verdict to quote."""

    task: str
    message: str
    try_number: int
    failed_at: AwareDatetime


class DownloadedFile(Contract):
    path: str  # absolute
    bytes: int
    sha256: str
    origin: str  # the URL, or the path of a local file


class Download(Contract):
    """The bodies a source gave for the window. No file means that the source has nothing for it."""

    kind: str
    files: list[DownloadedFile]
    window_start: AwareDatetime
    window_end: AwareDatetime
    fetched_at: AwareDatetime


class SnapshotRef(Contract):
    """The snapshot that a night uses, and what was delivered for it. `rows` of 0 means NO_DATA."""

    snapshot_id: str
    path: str
    rows: int
    created: bool  # False: the same content was there already
    delivery: Delivery | None = None  # None: recorded by an older version, which did not keep it

    def no_data(self, window_start: dt.datetime, window_end: dt.datetime) -> str:
        """Say that the night's window has no rows, and where the rows are that the source has."""
        window = f"from {_moment(window_start)} to {_moment(window_end)}"
        extent = f" ({self.delivery.extent})" if self.delivery else ""
        return f"the source has no rows {window}{extent}"


class Contribution(Contract):
    """A value, or a range of numbers, that contributes to a finding."""

    value: str
    rows: int  # that have it, in the examples or snapshot that the figure is of
    share: float  # of all that have a value
    control: float | None = None  # the same share in the control; None where it has no such value, or there is none


AGAINST_PRODUCTION = " against production"  # after a metric, the name of the check of its change


class Reason(Contract):
    """One finding of a gate, with its figure and threshold; `held` findings close the gate, the others are said.

    A check whose threshold stands in [data_gate] has its key as name: max_… is held above it, min_… below it.
    """

    check: str  # e.g. min_rows, label_share, schema, drift, skew, auc
    subject: str  # feature, column, metric or slice it is about; "" for the data or model as a whole
    figure: float | str | None
    threshold: float | str | None
    held: bool
    message: str  # one sentence: what, against what
    action: str = ""  # what to do about it
    severity: Literal["", "info", "warning", "error"] = ""  # error holds, a warning is to be looked at
    control: str = ""  # what it was measured against: last_accepted, production, same_weekday, same_season, …
    sample: int | None = None  # rows that the figure rests on, where few of them say nothing
    enough: int | None = None  # below this many it is not judged
    values: list[Contribution] = []  # those that contribute most
    rows: list[str] = []  # examples, as FILE:ROW of the snapshot, from 0

    @property
    def metric(self) -> str:
        """The metric that a finding of the model gate is about."""
        return self.check.removesuffix(AGAINST_PRODUCTION)

    @property
    def is_change(self) -> bool:
        """Whether a finding of the model gate compares with production; others are of the model alone."""
        return self.check.endswith(AGAINST_PRODUCTION)


def beyond(check: str, figure: float, threshold: float) -> bool:
    """Whether the figure breaks its threshold: strictly below that of a min_… check, strictly above any other's."""
    return figure < threshold if check.startswith("min_") else figure > threshold


class GateResult(Contract):
    """A gate's decision, with every finding it made: a control that was missing is a finding too."""

    gate: Literal["data", "model"]
    passed: bool
    reasons: list[Reason]
    decided_at: AwareDatetime

    @property
    def held_for(self) -> list[Reason]:
        return [reason for reason in self.reasons if reason.held]


def _moment(time: dt.datetime) -> str:
    """A day, with the time of day where that is not midnight."""
    return f"{time:%Y-%m-%d}" if time.time() == dt.time() else f"{time:%Y-%m-%d %H:%M}"


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
