"""The section [source] of config.toml."""

import datetime as dt
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from nightly.records.http_config import SECRET, Paging, check_placeholders
from nightly.records.path_pattern import PathPattern
from nightly.records.section import Days, Section, without_repeats

FileFormat = Literal["csv", "json", "avro", "tfrecord", "parquet"]


class _Source(Section):
    """What every kind of source has.

    :cvar SAME_BODIES: keys that choose parts, or say how they are asked for. A part's body is the same with any value
        of them, so the parts of earlier nights are used after such a key has changed
    """

    SAME_BODIES: ClassVar[frozenset[str]] = frozenset({"ended_on", "settled_days"})

    connection: str = ""
    """The id of an Airflow connection with the address and the credentials. `bin/night` reads it from the environment
    variable `AIRFLOW_CONN_<ID>`, which Airflow reads, too."""
    ended_on: Annotated[dt.date, Strict(False)] | None = None
    """The day on which the data ends, for a source that gets no more. A run that a person starts without a date is as
    of this day; scheduled nights and backfills have their own dates."""
    settled_days: Annotated[int, Field(ge=0)] | None = None
    """The number of days after which the source's rows do not change any more. A part that was fetched at least so many
    days after its end is not fetched again. By default every part is, unless the source says that it is unchanged."""


class FilesSource(_Source):
    """Files in a folder, in a bucket or on a web server, sliced by the time column."""

    SAME_BODIES = _Source.SAME_BODIES | {"extra_days"}

    kind: Literal["files"] = "files"
    """Reads files."""
    path: Annotated[str, Field(min_length=1)]
    """A file, a folder or a URL (`s3://`, `gs://`, `az://CONTAINER/`, `http://`, `https://`), with globs (`*`, `**`,
    `?`) and dates (`{date:%Y/%m/%d}`), of which a night reads those of its window. `package:NAME/PATH` is a file inside
    a wheel of the ML environment. If `connection` exists and has a path, that replaces it."""
    format: Literal["", FileFormat] = ""
    """The format of the files, if their names do not show it. `json` means JSON lines."""
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
    """A column that says when a row last changed. A night then reads only days whose row count, latest change or
    checksum of all changes (PostgreSQL and SQLite) differs from what an earlier night saw."""
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

    SAME_BODIES = _Source.SAME_BODIES | {
        *("timeout_seconds", "retries", "retry_statuses", "max_pages", "omits_empty_rows")
    }

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
    """The path of the list of rows in a JSON answer, e.g. `data.items`. By default it is the only list there."""
    omits_empty_rows: bool = False
    """Whether the API leaves the list out of an answer without rows. An answer that has the object of the list, and in
    it no error and no other list of objects, then has no rows. By default it is refused: the list may be renamed."""
    paging: Paging | None = None
    """How the API pages. A header `Link: …; rel=next` is followed without it; other signs of more pages are errors."""
    max_pages: Annotated[int, Field(ge=1)] = 10_000
    """The most pages of a request. More are an error, since an API may page for ever."""
    slice_days: Days = 1
    """How many days a request asks for. Fewer days fetch less again, more days need fewer requests."""
    too_big_statuses: list[int] = []
    """Statuses that mean that a slice is too big, besides 413. Half of it is requested then."""
    retry_statuses: list[int] = []
    """Statuses after which a request is repeated, besides 408, 425, 429 and those from 500 on."""
    empty_statuses: list[int] = []
    """Statuses that mean that a slice has no rows, e.g. 404, besides 204."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60
    """The longest silence of the API, in seconds."""
    retries: Annotated[int, Field(ge=0)] = 5
    """How many times in a row a failed request is repeated."""

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
        if self.omits_empty_rows and not self.rows:
            raise ValueError("omits_empty_rows is about the list at `rows`: name its path there")
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
