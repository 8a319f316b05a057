"""The sections [source], [schedule] and [data] of config.toml."""

import datetime as dt
import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from nightly.io.hints import did_you_mean
from nightly.records.http_config import SECRET, Paging, check_placeholders
from nightly.records.label_config import Label
from nightly.records.path_pattern import PathPattern
from nightly.records.section import Section, without_repeats

Days = Annotated[int, Field(ge=1, le=36_500)]
EPOCHS = ("epoch_s", "epoch_ms")


class _Source(Section):
    """What every kind of source has.

    :cvar SAME_BODIES: keys that choose parts, or say how they are asked for. A part's body is the same with any value
        of them, so the parts of earlier nights are used after such a key has changed
    """

    SAME_BODIES: ClassVar[frozenset[str]] = frozenset({"ended_on", "settled_days"})

    connection: str = ""
    """The id of an Airflow connection with the address and the credentials. `bin/night` reads it from the environment
    variable `AIRFLOW_CONN_<ID>`, which Airflow reads, too."""
    ended_on: dt.date | None = None
    """The day on which the data ends, for a source that gets no more. A run without a date is as of this day."""
    settled_days: Annotated[int, Field(ge=0)] | None = None
    """After so many days the source changes its rows no more. Parts that an earlier night fetched at least so many days
    after their end are not asked for again. By default each part is, unless the source tells that it is unchanged."""


class FilesSource(_Source):
    """Files in a folder, in a bucket or on a web server, sliced by the time column."""

    SAME_BODIES = _Source.SAME_BODIES | {"extra_days"}

    kind: Literal["files"] = "files"
    """Reads files."""
    path: Annotated[str, Field(min_length=1)]
    """A file, a folder or a URL (`s3://`, `gs://`, `az://CONTAINER/`, `http://`, `https://`), with globs (`*`, `**`,
    `?`) and dates (`{date:%Y/%m/%d}`), of which a night reads those of its window. `package:NAME/PATH` is a file inside
    a wheel of the ML environment. If `connection` exists and has a path, that replaces it."""
    format: Literal["", "csv", "json", "avro", "tfrecord", "parquet"] = ""
    """What the files hold, if their names do not tell. `json` means JSON lines."""
    extra_days: Annotated[int, Field(ge=0)] = 0
    """With dates in `path`: files of so many days before and after the window are read, too. Rows of the window may be
    in them if files are dated by arrival, or in another time zone than UTC."""

    @field_validator("path")
    @classmethod
    def _path_is_valid(cls, path: str) -> str:
        PathPattern(path)
        return path


class SqlSource(_Source):
    """A table or a query of a database, read as Arrow columns, in one consistent view."""

    kind: Literal["sql"] = "sql"
    """Reads a database."""
    table: str = ""
    """A table or view, `NAME` or `SCHEMA.NAME`. Give `table` or `query`."""
    query: str = ""
    """A query. It is run for a few days at a time; `:window_start` and `:window_end` stand for their bounds, the start
    included, in the type of the time column. Without them its result is filtered."""
    columns: list[str] = []
    """The columns to read, as the database names them; by default all. The time column is always read."""
    changed_at: str = ""
    """A column that says when a row last changed. A night then reads only days whose row count or latest change
    differs from what an earlier night saw."""
    slice_days: Days = 1
    """How many days of rows are fetched, and kept for later nights, as one part."""

    @field_validator("columns")
    @classmethod
    def _named_once(cls, columns: list[str]) -> list[str]:
        return without_repeats(columns)

    @model_validator(mode="after")
    def _table_or_query(self) -> "SqlSource":
        if bool(self.table.strip()) == bool(self.query.strip()):
            raise ValueError("give either `table` or `query`")
        return self


class TableSource(_Source):
    """A Delta or Iceberg table, as it was at the night's as-of time."""

    SAME_BODIES = _Source.SAME_BODIES | {"time_travel", "version", "ref"}

    kind: Literal["table"] = "table"
    """Reads a Delta or Iceberg table."""
    format: Literal["delta", "iceberg"]
    """The table's format."""
    path: Annotated[str, Field(min_length=1)]
    """delta: the table's folder or URL. iceberg: `NAMESPACE.NAME` in the catalog, the path of a metadata file, or the
    table's folder if that has a version-hint.text."""
    columns: list[str] = []
    """The table's columns to read, by their names there. `[]` reads all."""
    time_travel: bool = True
    """Read the version that was current at the night's as-of time. With `false` each night reads the newest version, as
    for a table that was loaded later than its rows were known; `data.known_at` then leaves out what is too new."""
    version: Annotated[int, Field(ge=0)] | None = None
    """Read always this version (delta) or snapshot id (iceberg), for experiments."""
    ref: str = ""
    """Read always this branch or tag of an Iceberg table."""

    @field_validator("columns")
    @classmethod
    def _named_once(cls, columns: list[str]) -> list[str]:
        return without_repeats(columns)

    @model_validator(mode="after")
    def _one_way_to_name_the_version(self) -> "TableSource":
        if self.ref and self.format == "delta":
            raise ValueError("a Delta table has no branches or tags: leave out `ref`, or give a `version`")
        if self.ref and self.version is not None:
            raise ValueError("give either `version` or `ref`")
        return self


class HttpSource(_Source):
    """An HTTP API that answers JSON or CSV, for a slice of days at a time if it can.

    `{start}` and `{end}` in `url` and `params` stand for the first day of a slice and the first day after it, `{last}`
    for its last day. `{start:%Y-%m-%dT%H:%M:%SZ}`, or `{last:epoch_s}`, writes another format. Without any of them the
    source is one answer with all rows. Times are UTC."""

    SAME_BODIES = _Source.SAME_BODIES | {"timeout_seconds", "retries", "retry_statuses"}

    kind: Literal["http"] = "http"
    """Reads an HTTP API."""
    url: Annotated[str, Field(min_length=1)]
    """The address of the API. If `connection` has a host, that replaces the address's; its login and password are sent
    as Basic authorization, its password alone as a bearer token."""
    params: dict[str, str] = {}
    """The parameters of a request, e.g. `{ since = "{start}", until = "{last}" }`. Secrets belong in `connection`."""
    headers: dict[str, str] = {}
    """The headers of a request. Secrets belong in `connection`."""
    format: Literal["json", "jsonl", "csv"] = "json"
    """What the API answers: JSON, JSON lines, or CSV."""
    rows: str = ""
    """The place of the list of rows in a JSON answer, e.g. `data.items`. By default it is the only list there."""
    paging: Paging | None = None
    """How the API pages. A header `Link: …; rel=next` is followed without it."""
    slice_days: Days = 1
    """How many days a request asks for. Fewer are incremental, more are fewer requests."""
    too_big_statuses: list[int] = [413]
    """Statuses by which the API refuses a slice as too big. Half of it is asked for then."""
    retry_statuses: list[int] = []
    """Statuses after which a request is repeated, besides 408, 425, 429 and those from 500 on."""
    empty_statuses: list[int] = []
    """Statuses that mean that a slice has no rows, e.g. 404, besides 204."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60
    """The longest silence of the API, in seconds."""
    retries: Annotated[int, Field(ge=0)] = 5
    """How many failures in a row a request is repeated after."""

    @model_validator(mode="after")
    def _can_be_requested(self) -> "HttpSource":
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"url is {self.url.rpartition('@')[2]!r}: it begins with https:// or http://, and a host")
        if "@" in parts.netloc:
            raise ValueError("url has a user or password in it: put them into the connection")
        for key, entries in (("url", dict(parse_qsl(parts.query))), ("params", self.params), ("headers", self.headers)):
            for name in entries:
                if SECRET.search(name):
                    raise ValueError(
                        f"{key} has {name}, which is a secret: put it into the connection's extra, as "
                        f'{{"{"headers" if key == "headers" else "params"}": {{"{name}": "…"}}}}'
                    )
        for text in (self.url, *self.params.values()):
            check_placeholders(text)
        paging = self.paging and (self.paging.total or self.paging.kind == "cursor")
        if self.format != "json" and (self.rows or paging):
            raise ValueError(f'format = "{self.format}" has no places such as rows, paging.next and paging.total')
        return self


class PythonSource(_Source):
    """A function in the model's folder that yields the rows of a window as Arrow batches."""

    kind: Literal["python"] = "python"
    """Calls a Python function."""
    function: Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")] = "source:rows"
    """`MODULE:FUNCTION` in the model's folder. It is called with a window and the connection. If the module also has a
    function `parts`, that divides the source, and the function gets a part's name as its third argument."""
    slice_days: Days = 1
    """How many days a call asks for, if the module has no function `parts`."""


def _known_kind(source: Any) -> Any:
    """Say what replaces a kind that earlier versions had."""
    if isinstance(source, dict) and source.get("kind") == "complaints_api":
        raise ValueError(
            'kind = "complaints_api" has become a configuration of kind = "http": copy url, params, format, slice_days '
            "and the statuses from [source] of include/models/complaints/config.toml"
        )
    return source


SourceConfig = Annotated[
    FilesSource | SqlSource | TableSource | HttpSource | PythonSource,
    Field(discriminator="kind"),
    BeforeValidator(_known_kind),
]


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
    """The columns that identify a row. They decide its side of the train/eval split. `[]` stands for the whole row."""
    time_column: str
    """The column with the row's time, which the window is applied to. `""` for data without a time: each night reads
    all rows."""
    time_format: str = "%Y-%m-%d"
    """The format of the time column, for strptime; or `epoch_s` or `epoch_ms`."""
    time_zone: str = "UTC"
    """The time zone of times without an offset, a name of the IANA database. A time that the clocks show twice is the
    first of the two; one that they skip is the moment after the gap. Windows and days are in UTC anyway."""
    known_at: str = ""
    """The column that says when a row was known. Rows that were known after a night's as-of time are left out, and of
    the versions of an id the one known last is kept. So a night of the past sees what it would have seen then. The
    column stays in the snapshot and is left out of the examples."""
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
    """How many days late rows may arrive. Younger rows are not used yet."""
    eval: Literal["hash", "newest"] = "hash"
    """The rows of the eval split. `hash` takes them by a hash of their id, so an id is in the same split every night.
    `newest` takes the newest days, as the model will be used: on later rows than it was trained on."""
    eval_percent: Annotated[int, Field(ge=1, le=50)] = 20
    """The percentage of rows in the eval split; the others are trained on. With `newest`, the fewest newest days that
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
    def _columns_are_consistent(self) -> "Data":
        targets = list(self.rename.values())
        if repeated := {column for column in targets if targets.count(column) > 1}:
            raise ValueError(f"rename gives the name {min(repeated)!r} to more than one header: give each its own")
        optional = [column for column in (self.time_column, self.known_at, self.weight_column) if column]
        for column in [*targets, *self.id_columns, self.label.column, *optional, *self.ignore]:
            valid = column if column in targets else self.rename.get(column, column_name(column))
            if not column or column != valid:
                raise ValueError(f"no column has the name {column!r}; write {valid or 'a name'!r}, as in the snapshot")
        if self.known_at and self.known_at in (self.time_column, self.label.column, *self.id_columns):
            raise ValueError(
                f"known_at is {self.known_at!r}, which is a column of another meaning too: name the column that says "
                "when the source got to know a row, or leave known_at out"
            )
        if self.label.column in self.ignore:
            raise ValueError(
                f"ignore leaves the label {self.label.column!r} out of the examples: take it out of ignore"
            )
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
