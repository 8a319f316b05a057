"""The sections [schedule] and [data] of config.toml."""

import datetime as dt
import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nightly.io.hints import did_you_mean
from nightly.records.label_config import Label
from nightly.records.section import Days, Section, without_repeats

EPOCHS = ("epoch_s", "epoch_ms")


class Schedule(Section):
    """When a night begins."""

    cron: str = "0 3 * * *"
    """A cron expression."""
    timezone: str = "UTC"
    """The time zone of `cron`, a name of the IANA database."""

    @field_validator("cron")
    @classmethod
    def _cron_matches_a_date(cls, cron: str) -> str:
        try:
            from croniter import CroniterError, croniter  # comes with Airflow; without Airflow nothing is scheduled
        except ImportError:
            return cron
        try:
            croniter(cron).get_next()
        except CroniterError as error:
            raise ValueError(
                f"{cron!r} is not a cron expression that matches a date: {error}; e.g. 0 3 * * *"
            ) from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        return _known_zone(timezone)


class Data(Section):
    """The columns, and the window of a night. A column has its name in the snapshot: the header in snake_case, or as in
    `rename`."""

    id_columns: list[str]
    """The columns that identify a row. They decide whether it is in the train or the eval split. `[]` stands for the
    whole row."""
    equal_rows: Literal["drop", "keep"] = "drop"
    """Of rows that are equal in all columns, `drop` keeps one, since a source may deliver a row twice. `keep` keeps
    them all, for a table without an id that each night reads as a whole. It needs `id_columns = []`."""
    time_column: str
    """The column with the row's time, which the window is applied to. `""` for data without a time: each night reads
    all rows."""
    time_format: str = "%Y-%m-%d"
    """The format of the time column, for strptime; or `epoch_s` or `epoch_ms`."""
    time_zone: str = "UTC"
    """The time zone of times without an offset, a name of the IANA database. A time that occurs twice is the first of
    the two; a time that is skipped is the moment after the gap. Windows and days are always in UTC."""
    known_at: str = ""
    """The column that says when a row was known. Rows that were known only after a night's as-of time are left out, and
    of each id the latest known version is kept. So a night of the past sees what it would have seen then. The column
    stays in the snapshot and is left out of the examples."""
    known_at_format: str = ""
    """The format of `known_at`; by default that of the time column. A day without a time of day counts as its end."""
    label: Label
    """What the model predicts; its keys depend on `kind`. Without `kind` the label is binary."""
    weight_column: str = ""
    """A column of weights, 0 or more, for training and for all metrics. Without it every row weighs 1."""
    rename: dict[str, str] = {}
    """Headers in the file, and the columns that they become."""
    ignore: list[str] = []
    """Columns that are kept in the snapshot and left out of the examples."""
    look_back_days: Days = 90
    """The length of a night's window, in days. The window ends at the as-of time, less `late_days`."""
    late_days: Annotated[int, Field(ge=0)] = 0
    """How many days late rows may arrive. Rows of these last days are not used yet."""
    eval: Literal["hash", "newest"] = "hash"
    """The rows of the eval split. `hash` chooses them by a hash of their id, so an id is in the same split every night.
    `newest` takes the newest days: later rows than the model was trained on, as in production."""
    eval_percent: Annotated[int, Field(ge=1, le=50)] = 20
    """The percentage of rows in the eval split; the others are trained on. With `newest`, as few of the newest days as
    have this percentage."""

    @field_validator("label", mode="before")
    @classmethod
    def _binary_by_default(cls, label: Any) -> Any:
        return {"kind": "binary", **label} if isinstance(label, dict) else label

    @field_validator("id_columns", "ignore")
    @classmethod
    def _named_once(cls, columns: list[str]) -> list[str]:
        return without_repeats(columns)

    @model_validator(mode="before")
    @classmethod
    def _known_at_is_no_feature(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not (known_at := data.get("known_at")):
            return data
        ignored = data.get("ignore", [])
        if not isinstance(ignored, list) or known_at in ignored:
            return data
        return data | {"ignore": [*ignored, known_at]}

    @field_validator("time_zone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        return _known_zone(timezone)

    @field_validator("time_format", "known_at_format")
    @classmethod
    def _format_includes_the_day(cls, text: str, info: ValidationInfo) -> str:
        moment = dt.datetime(2016, 2, 29, 13, 14, 15, tzinfo=dt.UTC)
        if text in EPOCHS or (not text and info.field_name == "known_at_format"):
            return text
        if "%" not in text:
            raise ValueError(f"{text!r} is not a strptime format{did_you_mean(text, [*EPOCHS, '%Y-%m-%d'])}")
        try:
            day = dt.datetime.strptime(moment.strftime(text), text).date()
        except ValueError as error:
            raise ValueError(f"{text!r} is not a format that strptime can read: {error}; e.g. %Y-%m-%d") from None
        if day != moment.date():
            raise ValueError(f"{text!r} does not include year, month and day; e.g. %Y-%m-%d")
        return text

    @model_validator(mode="after")
    def _names_are_columns(self) -> "Data":
        targets = list(self.rename.values())
        if repeated := {column for column in targets if targets.count(column) > 1}:
            raise ValueError(f"rename gives the name {min(repeated)!r} to more than one header: give each its own")
        optional = [column for column in (self.time_column, self.known_at, self.weight_column) if column]
        for column in [*targets, *self.id_columns, self.label.column, *optional, *self.ignore]:
            valid = column if column in targets else self.rename.get(column, column_name(column))
            if not column or column != valid:
                raise ValueError(f"no column has the name {column!r}; write {valid or 'a name'!r}, as in the snapshot")
        return self

    @model_validator(mode="after")
    def _columns_are_consistent(self) -> "Data":
        if self.known_at and self.known_at in (self.time_column, self.label.column, *self.id_columns):
            raise ValueError(
                f"known_at is {self.known_at!r}, which is a column of another meaning too: name the column that says "
                "when the source got to know a row, or leave known_at out"
            )
        if self.equal_rows == "keep" and (self.id_columns or self.known_at):
            names = f"id_columns = {self.id_columns}" if self.id_columns else f"known_at = {self.known_at!r}"
            raise ValueError(
                f'equal_rows = "keep" and {names}: of rows with one id only the last is kept. Leave equal_rows out'
            )
        if self.label.column in self.ignore:
            raise ValueError(
                f"ignore leaves the label {self.label.column!r} out of the examples: take it out of ignore"
            )
        if self.label.column in self.id_columns:
            raise ValueError(f"the label {self.label.column!r} cannot identify a row: take it out of id_columns")
        if not self.time_column and self.eval == "newest":
            raise ValueError(
                'eval = "newest" holds out the newest days, and there is no time_column: set eval = "hash"'
            )
        if self.label.column == self.time_column:
            raise ValueError(f"{self.time_column!r} cannot be the label and the time_column: name another")
        if self.weight_column and self.weight_column in (self.label.column, self.time_column):
            raise ValueError(f"{self.weight_column!r} cannot be the weight_column too: name another")
        if self.weight_column and self.weight_column in self.ignore:
            raise ValueError(f"ignore leaves the weights {self.weight_column!r} out: take them out of ignore")
        return self

    def window_start(self, as_of: dt.datetime, look_back_days: int | None = None) -> dt.datetime:
        """Return the start of a night's window, which ends `late_days` before `as_of`. Raises OverflowError."""
        days = self.look_back_days if look_back_days is None else look_back_days
        return as_of - dt.timedelta(days=self.late_days + days)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = did_you_mean(name, list(available_timezones()), otherwise="write one like Europe/Berlin")
        raise ValueError(f"there is no time zone {name!r}{near}") from None
    return name


def column_name(header: str) -> str:
    """Return the header in snake_case: its column's name unless `rename` gives another."""
    return re.sub(r"[^a-z0-9]+", "_", header.strip().lower()).strip("_")
