"""The records of one night: the request and each step's result. A night's folder holds a JSON file for each.

request.json     Night         the request, written before any other step runs
download.json    Download      the downloaded bodies
snapshot.json    SnapshotRef   the snapshot that this night uses
data_gate.json   GateResult
model_gate.json  GateResult
release.json     ReleaseRecord (include/nightly/records/release.py)
verdict.json     Verdict       (include/nightly/records/verdict.py)
schema_*.json    a proposed change of the schema, and the answer (include/nightly/records/schema.py)
<task>.error.json  StepError   why the task failed
<task>.reuse.json  Reuse       whether the task reused earlier work (include/nightly/records/reuse.py)
"""

import datetime as dt
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime

from nightly.io.paths import Paths
from nightly.records.base import Contract
from nightly.records.snapshot import Delivery

Trigger = Literal["scheduled", "manual", "backfill", "command"]


class Night(Contract):
    """The request to one run. The plan step writes it, and every later step works from it alone."""

    FILE: ClassVar = "request.json"

    model: str
    run_id: str  # the orchestrator's
    trigger: Trigger
    requested_by: str
    as_of: AwareDatetime  # the window's end, exclusive: the night uses no later data
    window_start: AwareDatetime  # inclusive
    release: bool  # whether the night may release
    train_steps: int
    source_address: str = ""  # a path or URL for this run only, in place of the config's
    fresh: bool = False  # reuse no earlier night's work
    overrides: dict[str, Any] = {}  # thresholds for this run only, e.g. {"data_gate.min_rows": 100}
    override_reason: str = ""
    code_version: str  # git commit of the project, with `+changes` if the tree differs
    production_version: int | None = None  # the model gate's baseline; updated if production changes meanwhile
    production_note: str = ""  # set if another version came into production after the plan
    damaged_version: int | None = None  # the version in production if it is damaged or lost beyond repair: no baseline
    damage: str = ""  # the damage to the files in production, and what was done about it
    schema_version: int = 0  # of nightly.schemas.store; an approved review replaces it. 0 is the curated schema
    schema_note: str = ""  # who approved the version and why, or which version the curated schema superseded
    run_url: str = ""  # the run in the Airflow UI
    planned_at: AwareDatetime

    def folder(self, paths: Paths) -> Path:
        return paths.night(self.model, self.run_id)

    @property
    def in_production(self) -> int | None:
        """The version that serves callers, even if it is too damaged for the model gate to compare with."""
        return self.damaged_version if self.production_version is None else self.production_version


class StepError(Contract):
    """A failed task's own message, which the verdict quotes."""

    FILE: ClassVar = "{}.error.json"  # of the task

    task: str
    message: str
    try_number: int
    failed_at: AwareDatetime


REVISED_SHOWN = 3  # names of revised parts, and of removed ones, in a sentence


class DownloadedFile(Contract):
    path: str  # absolute
    bytes: int
    sha256: str
    origin: str  # the URL, or the path of a local file
    run_id: str = ""  # of the night that fetched it; "" for a local file, and in records of older versions
    suffix: str = ""  # tells the file's kind if its name does not
    partition: dict[str, str | None] = {}  # columns that the file's folders give, e.g. {"city": "Chicago"}


class Download(Contract):
    """The bodies from the source for the window. An empty `files` means that the source has no data for it."""

    FILE: ClassVar = "download.json"

    kind: str
    files: list[DownloadedFile]
    window_start: AwareDatetime
    window_end: AwareDatetime
    fetched_at: AwareDatetime
    parts: int = 0  # pieces of the source in the window, with those that have no rows; 0 for local files
    reused: int = 0  # parts that an earlier night has fetched
    fetched_bytes: int = 0  # of the other parts
    revised: list[str] = []  # parts whose rows have changed at the source since an earlier night fetched them
    removed: list[str] = []  # files that an earlier night has read, and that are gone
    revised_since: AwareDatetime | None = None  # when the oldest of the replaced or removed bodies was fetched

    @property
    def revision(self) -> str:
        """A sentence about what has changed at the source, and what is gone; "" if nothing has or is."""
        since = f" since {self.revised_since:%Y-%m-%d %H:%M} UTC" if self.revised_since else ""
        sentences = []
        if self.revised:
            have = "has" if len(self.revised) == 1 else "have"
            parts = f"{self.parts} parts" if self.parts else f"{len(self.files)} files"
            sentences.append(
                f"{len(self.revised)} of {parts} {have} changed at the source{since}: {_names(self.revised)}"
            )
        if self.removed:
            files = "1 file is" if len(self.removed) == 1 else f"{len(self.removed)} files are"
            sentences.append(f"{files} gone from the source{since}: {_names(self.removed)}")
        return "; ".join(sentences)


def _names(parts: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(parts) - REVISED_SHOWN
    return ", ".join(parts[:REVISED_SHOWN]) + (f" and {more} more" if more > 0 else "")


class SnapshotRef(Contract):
    """The snapshot that a night uses, and what was delivered for it. `rows` of 0 means NO_DATA."""

    FILE: ClassVar = "snapshot.json"

    snapshot_id: str
    path: str
    rows: int
    created: bool  # False if a snapshot of the same content existed
    delivery: Delivery | None = None  # None in records of older versions

    def no_data(self, window_start: dt.datetime, window_end: dt.datetime) -> str:
        """Return a sentence: the window has no rows, and the source's rows are from when to when."""
        window = f"from {_moment(window_start)} to {_moment(window_end)}"
        extent = f" ({self.delivery.extent})" if self.delivery else ""
        return f"the source has no rows {window}{extent}"


class Contribution(Contract):
    """A value, or a range of numbers, that contributes to a finding."""

    value: str
    rows: int  # rows with this value, in the measured examples or snapshot
    share: float  # of all rows with any value
    control: float | None = None  # the same share in the control; None if there is no control or it lacks the value


AGAINST_PRODUCTION = " against production"  # METRIC + this: the name of the check of the metric's change
CONSTANT = "better_than_constant"  # the check of the model against the best constant answer
ALL_EXAMPLES = "all examples"  # the subject of a model gate's finding that is of no slice
NEWEST_DAYS = "newest_days"  # the control of the skew of a split by time, which never holds


class Reason(Contract):
    """One finding of a gate, with its figure and threshold. A finding with `held` closes the gate.

    A check with a threshold in [data_gate] has that key's name: max_… holds above the threshold, min_… below it.
    """

    check: str  # e.g. min_rows, label_share, schema, drift, skew, auc
    subject: str  # the feature, column, metric or slice; "" for the data or model as a whole
    figure: float | str | None  # the measured value
    threshold: float | str | None
    bound: Literal["", "floor", "ceiling", "drop", "rise"] = ""  # the threshold of a metric; "" in older records
    held: bool
    message: str  # one sentence with the figure and what it is compared with
    # The finding as part of a sentence, without its bound. "" in older records, of findings that never hold, and of the
    # model gate, whose metrics mean nothing without a bound.
    headline: str = ""
    action: str = ""  # what to do about it
    severity: Literal["", "info", "warning", "error"] = ""  # an error holds; a warning needs a look
    control: str = ""  # last_accepted, production, same_weekday, same_season, …
    sample: int | None = None  # rows that the figure is computed from, for figures that few rows make unreliable
    enough: int | None = None  # the smallest sample that is judged
    undecided: bool = False  # whether a model gate's examples are too few to tell
    chance: float | None = None  # how far chance can move the figure either way, as the gate counts it
    values: list[Contribution] = []  # the largest contributions
    label: str = ""  # the label whose shares `values` are, such as "positive" or "'Cash'"; "" in older records
    rows: list[str] = []  # example rows, as FILE:ROW of the snapshot, from 0

    @property
    def metric(self) -> str:
        """The metric of a model gate's finding."""
        return self.check.removesuffix(AGAINST_PRODUCTION)

    @property
    def is_change(self) -> bool:
        """Whether a model gate's finding compares with production, and not the model with a fixed bound."""
        return self.check.endswith(AGAINST_PRODUCTION)


def breaks_threshold(check: str, figure: float, threshold: float) -> bool:
    """Return whether the figure is strictly below a min_… check's threshold, or strictly above any other check's."""
    return figure < threshold if check.startswith("min_") else figure > threshold


class GateResult(Contract):
    """A gate's decision with all its findings. A missing control is a finding too."""

    DATA_FILE: ClassVar = "data_gate.json"
    MODEL_FILE: ClassVar = "model_gate.json"

    gate: Literal["data", "model"]
    passed: bool
    reasons: list[Reason]
    decided_at: AwareDatetime

    @property
    def held_for(self) -> list[Reason]:
        return [reason for reason in self.reasons if reason.held]


def _moment(time: dt.datetime) -> str:
    """Return the date, with the time of day unless it is midnight."""
    return f"{time:%Y-%m-%d}" if time.time() == dt.time() else f"{time:%Y-%m-%d %H:%M}"


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
