"""Read bodies in batches, type the rows of the window, write a snapshot, and record each rejected row's reason."""

import datetime as dt
import functools
import hashlib
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.tables import shown
from nightly.records.config import ModelConfig
from nightly.records.night import Download, Night, SnapshotRef
from nightly.records.snapshot import Delivery, TruncatedBody
from nightly.records.source_config import Data
from nightly.snapshots.body import MARKED, ROW, Body, RowTest, unmark
from nightly.snapshots.columns import (
    SnapshotSchema,
    column_names,
    column_types,
    read_snapshot_schema,
    unnamed_columns,
)
from nightly.snapshots.conversion import Conversion
from nightly.snapshots.csv_rows import as_csv
from nightly.snapshots.errors import (
    TooManyRejectedError,
    TruncatedBodyError,
    UnreadableBodyError,
)
from nightly.snapshots.parsing import parse_numbers, parse_times
from nightly.snapshots.readers import bodies, read
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.types import TYPES

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

    - Rows: those with window_start <= time < as_of - late_days, where a date is its midnight in UTC. If there are none,
      the result has rows=0 and no snapshot.
    - Types: those of `schema`, by default the model's curated schema. A column that is not in it stays a string. If a
      column as a whole has another type (see _retyped), it keeps that type, and the data gate judges it.
    - Bad rows: in `folder`/rejected.parquet, also after an error.

    Raises SnapshotError.
    """
    data = config.data
    window = (night.window_start, night.as_of - dt.timedelta(days=data.late_days))
    streams = [
        body
        for file in download.files
        for body in bodies(_unchanged(file.path, file.sha256), file.suffix, file.partition)
    ]
    if not streams:
        log.info("the source has nothing from %s to %s", *window)
        return SnapshotRef(snapshot_id="", path="", rows=0, created=False, delivery=Delivery())
    names = [column_names(body, data.rename) for body in streams]
    named = list(zip(streams, names, strict=True))
    expected = read_snapshot_schema(schema or config.folder / "schema.pbtxt")
    columns = column_types(named, data, expected)
    while True:
        try:
            return _ingest(config, night, download, store, window, named, columns, expected, folder)
        except TooManyRejectedError as error:
            if not error.retyped:
                raise
            log.warning("columns whose type differs from the schema's; they keep their own: %s", error.retyped)
            columns |= error.retyped


def _ingest(
    config: ModelConfig,
    night: Night,
    download: Download,
    store: SnapshotStore,
    window: tuple[dt.datetime, dt.datetime],
    streams: list[tuple[Body, dict[str, str]]],
    columns: dict[str, str],
    expected: SnapshotSchema,
    folder: Path,
) -> SnapshotRef:
    """Read the bodies once.

    :param streams: each body with its header -> column name
    :param columns: column name -> type
    """
    data = config.data
    conversion = Conversion(columns, expected)
    with (
        Rejects(folder / "rejected.parquet") as rejects,
        store.build(columns, time_column=data.time_column, id_columns=data.id_columns) as builder,
    ):
        seen = _Seen()
        for body, renamed in streams:
            for batch in read(body, renamed, rejects, _row_test(body, renamed, data), columns):
                builder.add(_clean(batch, body, conversion, data, window, rejects, seen))
        rejects.close()
        log.info(
            "%s bodies, %s readable rows: %s in the window %s to %s, %s outside it; %s rejected",
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
            unnamed=unnamed_columns(streams),
        )
        if not builder.rows:
            if truncated:
                raise TruncatedBodyError(
                    f"{truncated[0].file} is truncated: {truncated[0].reason}, "
                    "and no row before the cut is in the window. Have it delivered again."
                )
            return SnapshotRef(snapshot_id="", path="", rows=0, created=False, delivery=delivery)
        manifest, created = builder.finish(
            label=data.label.column,
            label_kind=data.label.kind,
            window_start=window[0],
            window_end=window[1],
            source=[file.origin for file in download.files],
            source_sha256=[file.sha256 for file in download.files],
            code_version=night.code_version,
        )
    delivery = delivery.model_copy(update={"duplicate_rows": delivery.rows - manifest.rows})
    log.info(
        "snapshot %s %s: %s rows from %s to %s, %s duplicates left out",
        *(manifest.snapshot_id, "created" if created else "exists already", f"{manifest.rows:,}"),
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
    """Counts and extent of the rows with a readable time."""

    rows: int = 0
    outside: int = 0  # outside the window
    oldest: dt.datetime | None = None
    newest: dt.datetime | None = None

    def add(self, times: pa.TimestampArray, inside: pa.BooleanArray) -> None:
        if not len(times):
            return
        extent = pc.min_max(times).as_py()
        self.rows += len(times)
        self.outside += len(times) - (pc.sum(inside).as_py() or 0)
        self.oldest = min(filter(None, (self.oldest, extent["min"])))
        self.newest = max(filter(None, (self.newest, extent["max"])))


def _truncated(streams: list[tuple[Body, dict[str, str]]]) -> list[TruncatedBody]:
    bodies = [body for body, _ in streams if body.truncated]
    for body in bodies:
        log.warning("%s is truncated: %s: %r", body.name, body.truncated, body.cut_row)
    return [TruncatedBody(file=body.name, reason=body.truncated, text=body.cut_row) for body in bodies]


def _unchanged(path: str, sha256: str) -> Path:
    try:
        with Path(path).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableBodyError(f"{path}: {error.strerror}; run the download again.") from error
    if actual != sha256:
        raise UnreadableBodyError(f"{path} has changed since it was downloaded; run the download again.")
    return Path(path)


def _clean(
    batch: pa.RecordBatch,
    body: Body,
    conversion: Conversion,
    data: Data,
    window: tuple[dt.datetime, dt.datetime],
    rejects: Rejects,
    seen: _Seen,
) -> pa.RecordBatch:
    """Return the batch's valid rows of the window, typed and with all columns of the snapshot."""

    def reject(bad: pa.Array, reason: str, column: str, sentences: pa.Array | None = None) -> pa.Array:
        """Reject the rows where `bad` is true; return the mask of the others.

        :param sentences: what is wrong with each such row, in place of its value
        """
        wrong = sentences.filter(bad).to_pylist() if sentences is not None else itertools.repeat(None)
        for row, sentence in zip(batch.filter(bad).to_pylist(), wrong, strict=False):
            number = row.pop(ROW)
            value = sentence or unmark(_plain(row[column]) or "")
            text = unmark(as_csv([_plain(other) for other in row.values()]))
            rejects.add(reason, column, file=body.name, row=number, value=value, text=text)
        return pc.invert(bad)

    present = [name for name in batch.schema.names if name != ROW]
    if body.marked:
        for name in present:
            if not pa.types.is_string(batch.column(name).type):
                continue
            bad = pc.match_substring_regex(batch.column(name), MARKED).fill_null(False)
            batch = batch.filter(reject(bad, "encoding", name))

    if data.time_column not in present:
        times = pa.nulls(batch.num_rows, TYPES["timestamp"])
        batch = batch.append_column(data.time_column, pa.nulls(batch.num_rows, pa.string()))
    elif pa.types.is_temporal(batch.column(data.time_column).type):  # of Parquet; without a zone it is UTC
        times = batch.column(data.time_column).cast(pa.timestamp("us")).cast(TYPES["timestamp"])
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
    for name in conversion.columns:
        if name in present and name != data.time_column:
            typed[name], faults = conversion.convert(name, batch.column(name))
            present_faults = [fault for fault in faults if pc.any(fault.rows).as_py()]
            if present_faults:
                good = functools.reduce(pc.and_, [reject(f.rows, f.reason, name, f.sentences) for f in present_faults])
                batch, times = batch.filter(good), times.filter(good)
                typed = {known: array.filter(good) for known, array in typed.items()}
    typed[data.time_column] = times
    columns = conversion.columns
    arrays = [typed.get(name, pa.nulls(batch.num_rows, TYPES[kind])) for name, kind in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _plain(value: Any) -> str | None:
    """Return a value for rejected.parquet: text as it is, and bytes and lists shortened."""
    return value if value is None or isinstance(value, str) else shown(value)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the batch's column, or nulls if the body lacks it."""
    return batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string())


def _row_test(body: Body, renamed: dict[str, str], data: Data) -> RowTest:
    """Return a test for rows of `body`: as many fields as headers, and a valid time in the time column."""
    time_index = next((n for n, header in enumerate(body.headers) if renamed[header] == data.time_column), None)

    def is_row(fields: list[str]) -> bool:
        if len(fields) != len(body.headers) or time_index is None:
            return False
        return parse_times(pa.array([fields[time_index]], pa.string()), data.time_format).null_count == 0

    return is_row


def _check_share(config: ModelConfig, rejects: Rejects, rows: int, columns: dict[str, str]) -> None:
    limit = config.data_gate.max_rejected_share
    share = rejects.rows / (rejects.rows + rows) if rejects.rows else 0.0
    if share > limit:
        worst = rejects.counts()[0]
        raise TooManyRejectedError(
            f"{rejects.rows:,} of {rejects.rows + rows:,} rows could not be read: {share:.2%}, above "
            f"data_gate.max_rejected_share of {limit:.2%}. Most often ({worst.rows:,} rows) the fault is "
            f"{worst.fault}, e.g. {worst.place}. All are in {rejects.path}, each with its reason.",
            retyped=_retyped(rejects, rows, columns),
        )


def _retyped(rejects: Rejects, rows: int, columns: dict[str, str]) -> dict[str, str]:
    """Return column -> actual type, for columns that as a whole have another type.

    An integer column whose rejected values are all fractions is a float. A numeric column that most rows fill with
    something else is a string. With fewer such values, the rows are at fault, not the column.
    """
    retyped = {}
    for count in rejects.counts():
        if count.reason != "number":
            continue
        of_column = (pc.field("reason") == "number") & (pc.field("column") == count.column)
        values = pq.read_table(rejects.path, columns=["value"], filters=of_column).column("value").combine_chunks()
        if columns[count.column] == "int64" and not pc.any(parse_numbers(values.unique(), pa.float64())[1]).as_py():
            retyped[count.column] = "float"
        elif 2 * count.rows > rows + rejects.rows:
            retyped[count.column] = "string"
    return retyped
