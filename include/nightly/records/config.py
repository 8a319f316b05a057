"""A model's config.toml, validated when it is read. Both sides read it; the keys are explained where they stand."""

import datetime as dt
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import ConfigDict, Field, field_validator, model_validator

from nightly.io.hints import did_you_mean
from nightly.io.paths import MODELS
from nightly.records import metrics
from nightly.records.base import Contract, ContractError
from nightly.records.columns import column_name

Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=1, le=36_500)]
Allowance = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=100)]  # longer, Airflow refuses a tag
Change = Annotated[float, Field(gt=0, le=1)]
Factor = Annotated[float, Field(ge=1)]
ControlName = Literal["last_accepted", "production", "same_weekday", "same_season"]
EPOCHS = ("epoch_s", "epoch_ms")


class Section(Contract):
    """A part of the config. TOML knows nan and inf; as a bound, either would let everything pass."""

    model_config = ConfigDict(allow_inf_nan=False)


class FilesSource(Section):
    """Local files: CSV (plain, .gz or .zip) or TFRecord of tf.Example (plain or .gz), sliced by the time column."""

    kind: Literal["files"] = "files"
    path: Annotated[
        str, Field(min_length=1)
    ]  # a file, a folder, or `package:NAME/PATH` for a file inside a wheel of the ML environment
    connection: str = ""  # an Airflow connection whose path, when it exists, replaces `path`
    ended_on: dt.date | None = None  # history that ended: a run without a date is as of this day, not of today


class ComplaintsApiSource(Section):
    """The consumer complaint database's public search API: CSV by window of the date received."""

    kind: Literal["complaints_api"] = "complaints_api"
    url: str = "https://www.consumerfinance.gov/data-research/consumer-complaints/search/api/v1/"
    connection: str = ""  # an Airflow connection whose host, when it exists, replaces `url`
    timeout_seconds: Annotated[float, Field(gt=0)] = 60
    retries: Annotated[int, Field(ge=0)] = 5
    ended_on: dt.date | None = None


class Schedule(Section):
    cron: str = "0 3 * * *"
    timezone: str = "UTC"  # of the IANA database

    @field_validator("cron")
    @classmethod
    def _cron_comes_up(cls, cron: str) -> str:
        try:
            from croniter import CroniterError, croniter  # Airflow's; where it is not, nothing is scheduled
        except ImportError:
            return cron
        try:
            croniter(cron).get_next()
        except CroniterError as error:
            raise ValueError(f"{cron!r} is no cron expression that comes up: {error}; e.g. 0 3 * * *") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            near = did_you_mean(timezone, list(available_timezones()), otherwise="write one like Europe/Berlin")
            raise ValueError(f"there is no time zone {timezone!r}{near}") from None
        return timezone


class Label(Section):
    column: str
    positive: list[str]  # the values that count as 1; every other recorded value is 0, a blank one is no label

    @field_validator("positive")
    @classmethod
    def _some_value_is_positive(cls, positive: list[str]) -> list[str]:
        if not positive:
            raise ValueError(
                "name at least one value of the label that counts as 1: with none, every label is negative"
            )
        if blank := [value for value in positive if not value.strip()]:
            raise ValueError(f"{blank[0]!r} is blank, and a blank value is no label: take it out")
        return _without_repeats(positive)


class Data(Section):
    """Columns are named as in the snapshot: the header in snake_case, unless `rename` says otherwise."""

    id_columns: list[str]  # what makes a row the same row again; decides its side of the split. [] = the whole row
    time_column: str
    time_format: str = "%Y-%m-%d"  # strptime, or `epoch_s`, `epoch_ms`
    label: Label
    rename: dict[str, str] = {}  # header in the file -> column
    ignore: list[str] = []  # columns kept in the snapshot and left out of the examples
    look_back_days: Days = 90  # the window of a night ends at its as-of time and begins this long before
    late_days: Annotated[int, Field(ge=0)] = 0  # rows appear this late: what is younger is not used yet
    eval_percent: Annotated[int, Field(ge=1, le=50)] = 20

    @field_validator("id_columns", "ignore")
    @classmethod
    def _named_once(cls, columns: list[str]) -> list[str]:
        return _without_repeats(columns)

    @field_validator("time_format")
    @classmethod
    def _format_tells_the_day(cls, text: str) -> str:
        moment = dt.datetime(2016, 2, 29, 13, 14, 15, tzinfo=dt.UTC)
        if text in EPOCHS:
            return text
        if "%" not in text:
            raise ValueError(f"{text!r} is no format of strptime{did_you_mean(text, [*EPOCHS, '%Y-%m-%d'])}")
        try:
            day = dt.datetime.strptime(moment.strftime(text), text).date()
        except ValueError as error:
            raise ValueError(f"{text!r} is no format that strptime can read: {error}; e.g. %Y-%m-%d") from None
        if day != moment.date():
            raise ValueError(f"{text!r} does not tell year, month and day; e.g. %Y-%m-%d")
        return text

    @model_validator(mode="after")
    def _columns_are_consistent(self) -> "Data":
        targets = list(self.rename.values())
        if repeated := {column for column in targets if targets.count(column) > 1}:
            raise ValueError(f"rename gives the name {min(repeated)!r} to more than one header: give each its own")
        for column in [*targets, *self.id_columns, self.time_column, self.label.column, *self.ignore]:
            right = column if column in targets else self.rename.get(column, column_name(column))
            if not column or column != right:
                raise ValueError(f"no column has the name {column!r}; write {right or 'a name'!r}, as in the snapshot")
        if self.label.column in self.ignore:
            raise ValueError(
                f"ignore leaves the label {self.label.column!r} out of the examples: take it out of ignore"
            )
        if self.label.column == self.time_column:
            raise ValueError(f"{self.time_column!r} cannot be the label and the time_column: name another")
        return self

    def window_start(self, as_of: dt.datetime, look_back_days: int | None = None) -> dt.datetime:
        """Where the window of a night begins; it ends `late_days` before that. Raises OverflowError."""
        days = self.look_back_days if look_back_days is None else look_back_days
        return as_of - dt.timedelta(days=self.late_days + days)


class DataGate(Section):
    """What a night's data must be. Drift and skew thresholds stand in the curated schema, beside their feature.

    docs/checks.md says what each is for, and how it was measured.
    """

    # What the night is compared with, and by how much the thresholds of drift, and of every max_… figure against a
    # control, grow for it: the further away one is, the more has changed that is no fault. What is not named is not
    # measured.
    controls: dict[ControlName, Annotated[float, Field(gt=0)]] = {
        "last_accepted": 1,
        "production": 1.5,
        "same_weekday": 1.5,  # four to eight weeks before
        "same_season": 3,  # the year before
    }
    min_rows: Annotated[int, Field(ge=1)] = 1000
    max_rejected_share: Share = 0.01  # rows that could not be read, of all rows
    max_age_days: Annotated[float, Field(gt=0)] = 3  # the newest row, before the end of the window
    min_label_share: Share = 0.5  # rows whose label is recorded, of all rows
    min_rows_for_distance: Annotated[int, Field(ge=1)] = 200  # below this a drift or skew distance says nothing
    min_rows_for_value: Annotated[int, Field(ge=1)] = 100  # below this the label's share in one value's rows is chance
    max_rows_factor: Factor = 2  # rows against the usual, the median of what was accepted last; either way
    max_duplicate_share: Share = 0.02  # rows with an id that was there already, of all rows
    max_missing_days: Annotated[int, Field(ge=0)] = 0  # days of the window without rows where such days have many
    max_doubled_days: Annotated[int, Field(ge=0)] = 0  # days of the window with far more rows than such days have
    # Rows of any seven days in a row, of the usual ones; less is held where chance does not explain it.
    min_week_share: Share = 0.6
    max_label_change: Change = 0.05  # of the share of positive labels, against any control
    max_label_change_by_value: Change = 0.25  # the same in the rows of one value of a feature
    max_missing_change: Change = 0.05  # of a feature's share of missing values, against any control
    max_unseen_share: Change = 0.05  # rows with a value that neither the control nor the schema's domain has
    max_range_factor: Factor = 100  # the largest number, of the control's largest
    max_scale_factor: Factor = 10  # the median number, against the control's; either way
    serving_days: Annotated[int, Field(ge=0)] = 30  # of logged requests that training is compared with; 0: none


class SchemaReviewing(Section):
    """A night that only a change of the schema would let go on waits for a person; a backfill never does."""

    # So long, and then it is held. The next night starts when this one has ended: keep it below the schedule's pace.
    hours: Annotated[float, Field(ge=0)] = 12  # 0: no night waits; proposals are recorded all the same


class Bound(Section):
    """One metric's bounds. `floor` and `max_drop` are for metrics where higher is better, the others where lower is."""

    floor: float | None = None
    ceiling: float | None = None
    max_drop: Allowance | None = None  # below the model in production, absolute
    max_rise: Allowance | None = None  # above the model in production, absolute

    @model_validator(mode="after")
    def _one_direction(self) -> "Bound":
        if (self.floor is not None or self.max_drop is not None) and (
            self.ceiling is not None or self.max_rise is not None
        ):
            raise ValueError("a metric has a floor and max_drop, or a ceiling and max_rise, not a mix of both")
        if all(value is None for value in (self.floor, self.ceiling, self.max_drop, self.max_rise)):
            raise ValueError("give at least one of floor, ceiling, max_drop, max_rise: none means no verdict")
        return self


class ModelGate(Section):
    """What a night's model must be, on the whole and per slice, against figures and against production."""

    metrics: dict[str, Bound]  # TFMA metric name (auc, auc_precision_recall, binary_crossentropy, …) -> its bounds
    slices: list[str] = []  # columns; each value with at least min_slice_rows examples is judged by slice_metrics
    slice_metrics: dict[str, Bound] = {}
    min_slice_rows: Annotated[int, Field(ge=1)] = 100
    # What is done when the files in production are damaged and cannot be repaired, so that there is nothing to compare
    # with: judge by floors and ceilings alone, as in a first night, or hold the model.
    damaged_production: Literal["bounds_only", "hold"] = "bounds_only"

    @field_validator("metrics", "slice_metrics")
    @classmethod
    def _metrics_exist(cls, bounds: dict[str, Bound]) -> dict[str, Bound]:
        for name in bounds:
            if name not in metrics.NAMES:
                raise ValueError(f"there is no metric {name!r} of a binary label{did_you_mean(name, [*metrics.NAMES])}")
        return bounds

    @field_validator("slices")
    @classmethod
    def _sliced_once(cls, columns: list[str]) -> list[str]:
        return _without_repeats(columns)

    @model_validator(mode="after")
    def _judges_something(self) -> "ModelGate":
        if not self.metrics:
            raise ValueError(
                "metrics is empty, so no model would be held: bound at least one, e.g. auc = { floor = 0.6 }"
            )
        if self.slice_metrics and not self.slices:
            raise ValueError("slice_metrics judge nothing without slices: name the columns to slice by")
        return self


class Training(Section):
    steps: Annotated[int, Field(ge=1)] = 500
    batch_size: Annotated[int, Field(ge=1)] = 512
    hyperparameters: dict[str, int | float | str | bool] = {}  # read by the model's own code


class Pipeline(Section):
    """Where what grows with the rows runs. Beam is for what one machine cannot hold; below that it is slower."""

    reuse: bool = True  # an earlier night's work, where data, code and config are the same (nightly.tfx.reuse)
    engine: Literal["in_process", "beam"] = "in_process"
    beam_args: list[str] = []  # Beam's own options, e.g. ["--runner=FlinkRunner", "--flink_master=…"]; checked by plan

    @model_validator(mode="after")
    def _args_are_beams(self) -> "Pipeline":
        if self.beam_args and self.engine != "beam":
            raise ValueError('beam_args have no effect: set engine = "beam" too')
        return self


class Vertex(Section):
    """A release becomes a version of the Vertex AI model of the same name, and has its alias `default`."""

    project: str
    region: str
    image: str  # of the serving container, e.g. us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest
    # Replaces https://REGION-aiplatform.googleapis.com; one of http:// is sent no credentials.
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^/]+)?$")] = ""
    timeout_seconds: Annotated[float, Field(gt=0)] = 1800  # until Vertex AI has the version


class Canary(Section):
    """A release goes to a share of the callers first, and is compared with the version in production by what they ask.

    How it is decided: docs/how-to/canary.md. What is compared is the mean Brier score, (probability - label)^2, 0 to 1.
    """

    # Of the callers. Clients divide them, so they must be given the same: Canary(share=...) of the client library.
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    # The smallest difference that matters. Promote once the interval's upper bound is below this. Half of it needs
    # four times the labels.
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05  # of a wrong end, over all the nights that are looked at
    min_labelled: Annotated[int, Field(ge=100)] = 500  # predictions with a label on each side, before any decision
    max_days: Days = 14  # a comparison that has not decided by then ends
    undecided: Literal["stop", "promote"] = "stop"  # like this
    # Where labels come from later: rows of later snapshots by their id_columns, files in var/feedback/MODEL, or both.
    labels: Annotated[list[Literal["snapshots", "feedback"]], Field(min_length=1)] = ["snapshots", "feedback"]


class Release(Section):
    """`timeout_seconds` and what follows are for a model server; where that is, NIGHTLY_SERVING_REST and …_GRPC say."""

    keep: Annotated[int, Field(ge=2)] = 5  # versions in the serving volume; the one in use and its predecessor always
    timeout_seconds: Annotated[float, Field(gt=0)] = 180  # until the server says that a new version is AVAILABLE
    tolerance: Annotated[float, Field(ge=0)] = 1e-5  # between its golden predictions and those made offline, absolute
    latency_factor: Annotated[float, Field(ge=1)] = 3  # the new version's p99, of that of the version before
    gcs: str = ""  # gs://BUCKET/PREFIX: every release is copied there too, below the model's name
    vertex: Vertex | None = None  # and registered in Vertex AI, from there
    canary: Canary | None = None  # without it a release goes to all callers at once

    @model_validator(mode="after")
    def _targets_make_sense(self) -> "Release":
        if self.gcs and not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^/#?*\[\]\s]+)*", self.gcs):
            raise ValueError(f"gcs is {self.gcs!r}: give gs://BUCKET or gs://BUCKET/PREFIX, without a / at its end")
        if self.vertex and not self.gcs:
            raise ValueError("vertex reads the model from a bucket: set release.gcs too")
        return self


class Retention(Section):
    runs: Annotated[int, Field(ge=2)] = 14  # of these the pipeline's artifacts are kept, to run again from the middle
    snapshots: Annotated[int, Field(ge=1)] = 30  # that were used last, whatever became of their nights
    # More of those that an accepted or released night refers to, so many in all. Those of versions that are not removed
    # stay anyway (release.keep). Drift is measured against baselines, which need no snapshot.
    accepted_snapshots: Annotated[int, Field(ge=1)] = 60
    baselines: Annotated[int, Field(ge=60)] = 400  # accepted statistics: a year of nights, for the same season


class ModelConfig(Section):
    name: str  # the folder's name
    description: str
    owner: Name = "ml"
    tags: list[Name] = []
    source: Annotated[FilesSource | ComplaintsApiSource, Field(discriminator="kind")]
    schedule: Schedule = Schedule()
    data: Data
    data_gate: DataGate = DataGate()
    schema_review: SchemaReviewing = SchemaReviewing()
    model_gate: ModelGate
    training: Training = Training()
    pipeline: Pipeline = Pipeline()
    release: Release = Release()
    retention: Retention = Retention()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError("a model's name is lower-case letters, digits and _, and begins with a letter")
        return name

    @model_validator(mode="after")
    def _labels_can_be_joined(self) -> "ModelConfig":
        canary = self.release.canary
        if canary and "snapshots" in canary.labels and not self.data.id_columns:
            raise ValueError(
                "release.canary.labels has `snapshots`, and data.id_columns is empty: without an id no row of a "
                'snapshot can be joined to a logged prediction. Name the id\'s columns, or set labels = ["feedback"]'
            )
        return self

    @property
    def folder(self) -> Path:
        return MODELS / self.name

    def with_overrides(self, overrides: dict[str, Any]) -> "ModelConfig":
        """This config with thresholds replaced for one run, e.g. {"data_gate.min_rows": 100}.

        `drift.FEATURE` and `skew.FEATURE` are left to the schema's comparators. Raises ContractError.
        """
        data = self.model_dump()
        for key, value in overrides.items():
            section, _, rest = key.partition(".")
            if section in ("drift", "skew") and rest:
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise ContractError(f"threshold {key!r} is {value!r}: give a number, 0 or more")
                continue
            if section not in ("data_gate", "model_gate") or not rest:
                raise ContractError(
                    f"threshold {key!r}: only data_gate.…, model_gate.…, drift.FEATURE and skew.FEATURE can be "
                    "overridden for a run" + did_you_mean(section, ["data_gate", "model_gate", "drift", "skew"])
                )
            place = data[section]
            *path, last = rest.split(".")
            for part in path:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise ContractError(f"threshold {key!r}: {part} is a value and has nothing below it")
            place[last] = value
        return ModelConfig.parse(data, where="the thresholds given for this run")


def _without_repeats(names: list[str]) -> list[str]:
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{min(repeated)!r} stands in it more than once: name it once")
    return names
