"""Bodies -> typed rows of the window -> a snapshot, in batches; the bad rows go aside with their reason."""

import datetime as dt
import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io.hints import did_you_mean
from nightly.records.columns import column_name
from nightly.records.config import ModelConfig
from nightly.records.night import Download, Night, SnapshotRef
from nightly.records.snapshot import Delivery, TruncatedBody, UnnamedColumn
from nightly.records.source_config import Data
from nightly.schemas.curated import SchemaError, read_schema
from nightly.snapshots.body import MARKED, ROW, Body, RowTest, unmark
from nightly.snapshots.csv_rows import as_csv
from nightly.snapshots.errors import (
    ColumnError,
    SnapshotError,
    TooManyRejectedError,
    TruncatedBodyError,
    UnreadableBodyError,
)
from nightly.snapshots.parsing import parse_numbers, parse_times
from nightly.snapshots.readers import bodies, read
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.store import TYPES, SnapshotStore

log = logging.getLogger("nightly")


def ingest(
    config: ModelConfig,
    night: Night,
    download: Download,
    store: SnapshotStore,
    *,
    folder: Path,
    schema: Path | None = None,
) -> SnapshotRef:
    """Make the snapshot of `night` from the bodies of `download`.

    Its rows are those with window_start <= time < as_of - late_days, where a date is its midnight in UTC. Types come
    from `schema` (by default the model's curated one); a column that is not in it stays a string, and one that has come
    as another type throughout is kept as it came, for the data gate to judge. Bad rows are in
    `folder`/rejected.parquet afterwards, whether a snapshot came of it or not. No row in the window is rows=0 and no
    snapshot. Raises SnapshotError.
    """
    data = config.data
    window = (night.window_start, night.as_of - dt.timedelta(days=data.late_days))
    streams = [body for file in download.files for body in bodies(_unchanged(file.path, file.sha256))]
    if not streams:
        log.info("the source has nothing from %s to %s", *window)
        return SnapshotRef(snapshot_id="", path="", rows=0, created=False, delivery=Delivery())
    names = [column_names(body, data.rename) for body in streams]
    columns = _columns(names, data, schema or config.folder / "schema.pbtxt")
    named = list(zip(streams, names, strict=True))
    while True:
        try:
            return _ingest(config, night, download, store, window, named, columns, folder)
        except TooManyRejectedError as error:
            if not error.retyped:
                raise
            log.warning("of another type than in the schema, and kept as they came: %s", error.retyped)
            columns |= error.retyped


def _ingest(
    config: ModelConfig,
    night: Night,
    download: Download,
    store: SnapshotStore,
    window: tuple[dt.datetime, dt.datetime],
    streams: list[tuple[Body, dict[str, str]]],
    columns: dict[str, str],
    folder: Path,
) -> SnapshotRef:
    """One reading of the bodies, each with its columns' names, as `columns`: name -> type."""
    data = config.data
    with (
        Rejects(folder / "rejected.parquet") as rejects,
        store.build(columns, time_column=data.time_column, id_columns=data.id_columns) as builder,
    ):
        seen = _Seen()
        for body, renamed in streams:
            for batch in read(body, renamed, rejects, _row_test(body, renamed, data)):
                builder.add(_clean(batch, body, columns, data, window, rejects, seen))
        rejects.close()
        log.info(
            "%s bodies, %s rows that can be read: %s in the window %s to %s, %s outside of it; %s rejected",
            *(len(streams), f"{seen.rows:,}", f"{builder.rows:,}", *window, f"{seen.outside:,}", f"{rejects.rows:,}"),
        )
        for count in rejects.counts():
            log.warning("%s rows rejected for %s, e.g. %r", count.rows, count.fault, count.example)
        truncated = _truncated(streams)
        _check_share(config, rejects, builder.rows, columns)
        delivery = Delivery(
            rows=builder.rows,
            outside=seen.outside,
            oldest=seen.oldest,
            newest=seen.newest,
            rejected=rejects.counts(),
            truncated=truncated,
            without_newline=[body.name for body, _ in streams if body.without_newline],
            unnamed=_unnamed(streams),
        )
        if not builder.rows:
            if truncated:
                raise TruncatedBodyError(
                    f"{truncated[0].file} is truncated: {truncated[0].reason}, and no row of the window comes before. "
                    "Have it delivered again."
                )
            return SnapshotRef(snapshot_id="", path="", rows=0, created=False, delivery=delivery)
        manifest, created = builder.finish(
            label=data.label.column,
            window_start=window[0],
            window_end=window[1],
            source=[file.origin for file in download.files],
            source_sha256=[file.sha256 for file in download.files],
            code_version=night.code_version,
        )
    delivery = delivery.model_copy(update={"duplicate_rows": delivery.rows - manifest.rows})
    log.info(
        "snapshot %s %s: %s rows from %s to %s, %s duplicates left out",
        *(manifest.snapshot_id, "made" if created else "was there already", f"{manifest.rows:,}"),
        *(manifest.first_row, manifest.last_row, f"{delivery.duplicate_rows:,}"),
    )
    return SnapshotRef(
        snapshot_id=manifest.snapshot_id,
        path=str(store.path(manifest.snapshot_id).absolute()),
        rows=manifest.rows,
        created=created,
        delivery=delivery,
    )


@dataclass
class _Seen:
    """The rows whose time can be read."""

    rows: int = 0
    outside: int = 0  # of the window
    oldest: dt.datetime | None = None
    newest: dt.datetime | None = None

    def add(self, times: pa.TimestampArray, inside: pa.BooleanArray) -> None:
        if not len(times):
            return
        ends = pc.min_max(times).as_py()
        self.rows += len(times)
        self.outside += len(times) - (pc.sum(inside).as_py() or 0)
        self.oldest = min(filter(None, (self.oldest, ends["min"])))
        self.newest = max(filter(None, (self.newest, ends["max"])))


def _truncated(streams: list[tuple[Body, dict[str, str]]]) -> list[TruncatedBody]:
    bodies = [body for body, _ in streams if body.truncated]
    for body in bodies:
        log.warning("%s is truncated: %s: %r", body.name, body.truncated, body.cut_row)
    return [TruncatedBody(file=body.name, reason=body.truncated, text=body.cut_row) for body in bodies]


def _unnamed(streams: list[tuple[Body, dict[str, str]]]) -> list[UnnamedColumn]:
    unnamed = [
        UnnamedColumn(file=body.name, position=body.headers.index(header) + 1, column=names[header])
        for body, names in streams
        for header in body.unnamed
    ]
    for column in unnamed:
        log.warning("%s: column %s has no name in the header; it is %r", column.file, column.position, column.column)
    return unnamed


def column_names(body: Body, rename: dict[str, str]) -> dict[str, str]:
    """Each header of `body` -> its column: `rename`, or in snake_case. Raises ColumnError where two become one."""
    names: dict[str, str] = {}
    for header in body.headers:
        name = rename.get(body.unnamed.get(header, header)) or rename.get(header) or column_name(header)
        other = next((known for known, taken in names.items() if taken == name), None)
        if other is not None or not name or name == ROW:
            what = f"has the name of {other!r}, {name!r}" if other else f"makes no name: {name!r}"
            raise ColumnError(f"{body.name}: the header {header!r} {what}; name it in data.rename of config.toml.")
        names[header] = name
    return names


def _columns(names: list[dict[str, str]], data: Data, schema: Path) -> dict[str, str]:
    """The snapshot's columns, those of all bodies, each with its type. Raises ColumnError or SnapshotError."""
    found = list(dict.fromkeys(name for renamed in names for name in renamed.values()))
    for column in [data.time_column, *data.id_columns]:
        if column not in found:
            raise ColumnError(
                f"there is no column {column!r}, which the model's config needs{did_you_mean(column, found)}"
            )
    headers = {header for renamed in names for header in renamed} | {""}
    for header in sorted(set(data.rename) - headers):
        log.warning("data.rename: no body has the header %r", header)
    for renamed in names:
        absent = set(found) - set(renamed.values())
        if absent:
            log.warning("a body lacks columns that others have, its rows are blank there: %s", sorted(absent))
            break
    kinds = _kinds(schema)
    columns = {name: kinds.get(name, "string") for name in found}
    log.info("not in the schema, kept as text: %s", sorted(set(found) - set(kinds) - {data.time_column}) or "none")
    return columns | {data.time_column: "timestamp"}


def _kinds(schema: Path) -> dict[str, str]:
    """The curated schema's features -> type names of a snapshot."""
    try:
        features = read_schema(schema).feature
    except FileNotFoundError:
        hint = f"`bin/data schema infer DATA --model {schema.parent.name} --out {schema}` writes a first one."
        raise SnapshotError(f"the model has no curated schema: {schema} does not exist; {hint}") from None
    except SchemaError as error:
        raise SnapshotError(str(error)) from None
    kinds = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float"}
    return {feature.name: kinds.get(feature.type, "string") for feature in features}


def _unchanged(path: str, sha256: str) -> Path:
    try:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableBodyError(f"{path}: {error.strerror}; run the download again.") from error
    if found != sha256:
        raise UnreadableBodyError(f"{path} has changed since it was downloaded; run the download again.")
    return Path(path)


def _clean(
    batch: pa.RecordBatch,
    body: Body,
    columns: dict[str, str],
    data: Data,
    window: tuple[dt.datetime, dt.datetime],
    rejects: Rejects,
    seen: _Seen,
) -> pa.RecordBatch:
    """The batch's good rows of the window, typed and with all `columns`."""

    def reject(bad: pa.Array, reason: str, column: str) -> pa.Array:
        """Keep the rows where `bad` is true aside; the rows that stay, as a mask."""
        for row in batch.filter(bad).to_pylist():
            number = row.pop(ROW)
            value, text = unmark(row[column] or ""), unmark(as_csv(list(row.values())))
            rejects.add(reason, column, file=body.name, row=number, value=value, text=text)
        return pc.invert(bad)

    present = [name for name in batch.schema.names if name != ROW]
    if body.marked:
        for name in present:
            bad = pc.match_substring_regex(batch.column(name), MARKED).fill_null(False)
            batch = batch.filter(reject(bad, "encoding", name))

    if data.time_column not in present:
        times = pa.nulls(batch.num_rows, TYPES["timestamp"])
        batch = batch.append_column(data.time_column, pa.nulls(batch.num_rows, pa.string()))
    else:
        times = parse_times(batch.column(data.time_column), data.time_format)
    good = reject(times.is_null(), "time", data.time_column)
    batch, times = batch.filter(good), times.filter(good)

    start, end = (pa.scalar(moment, TYPES["timestamp"]) for moment in window)
    inside = pc.and_(pc.greater_equal(times, start), pc.less(times, end))
    seen.add(times, inside)
    batch, times = batch.filter(inside), times.filter(inside)

    if data.id_columns:
        blank = functools.reduce(pc.and_, [_column(batch, name).is_null() for name in data.id_columns])
        good = reject(blank, "id", data.id_columns[0]) if data.id_columns[0] in present else pc.invert(blank)
        batch, times = batch.filter(good), times.filter(good)

    typed: dict[str, pa.Array] = {}
    for name, kind in columns.items():
        if kind in ("int64", "float") and name in present:
            values, bad = parse_numbers(batch.column(name), TYPES[kind])
            if pc.any(bad).as_py():
                good = reject(bad, "number", name)
                batch, times, values = batch.filter(good), times.filter(good), values.filter(good)
                typed = {known: array.filter(good) for known, array in typed.items()}
            typed[name] = values
    typed[data.time_column] = times
    arrays = [typed[name] if name in typed else _column(batch, name).cast(TYPES[columns[name]]) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column that this body lacks is blank."""
    return batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string())


def _row_test(body: Body, renamed: dict[str, str], data: Data) -> RowTest:
    """Whether fields are a row of `body`: as many as its header has, with a time where the time is."""
    place = next((n for n, header in enumerate(body.headers) if renamed[header] == data.time_column), None)

    def is_row(fields: list[str]) -> bool:
        if len(fields) != len(body.headers) or place is None:
            return False
        return parse_times(pa.array([fields[place]], pa.string()), data.time_format).null_count == 0

    return is_row


def _check_share(config: ModelConfig, rejects: Rejects, rows: int, columns: dict[str, str]) -> None:
    limit = config.data_gate.max_rejected_share
    share = rejects.rows / (rejects.rows + rows) if rejects.rows else 0.0
    if share > limit:
        worst = rejects.counts()[0]
        raise TooManyRejectedError(
            f"{rejects.rows:,} of {rejects.rows + rows:,} rows could not be read: {share:.2%}, above "
            f"data_gate.max_rejected_share of {limit:.2%}. Most often ({worst.rows:,} rows) the fault is "
            f"{worst.fault}, e.g. {worst.example!r}. All are in {rejects.path}, each with its reason.",
            retyped=_retyped(rejects, rows, columns),
        )


def _retyped(rejects: Rejects, rows: int, columns: dict[str, str]) -> dict[str, str]:
    """Columns of another type than they should be, with that type: whole numbers of which some have fractions, and no
    other fault; and text where most rows should have a number. A few that are no numbers are faults of those rows.
    """
    found = {}
    for count in rejects.counts():
        if count.reason != "number":
            continue
        of_column = (pc.field("reason") == "number") & (pc.field("column") == count.column)
        values = pq.read_table(rejects.path, columns=["value"], filters=of_column).column("value").combine_chunks()
        if columns[count.column] == "int64" and not pc.any(parse_numbers(values.unique(), pa.float64())[1]).as_py():
            found[count.column] = "float"
        elif 2 * count.rows > rows + rejects.rows:
            found[count.column] = "string"
    return found
