"""Read bodies in batches, type the rows of the window, write a snapshot, and record each rejected row's reason."""

import datetime as dt
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.files import hash_file
from nightly.records.config import ModelConfig
from nightly.records.data_config import Data
from nightly.records.night import Download, DownloadedFile, Night, SnapshotRef
from nightly.records.snapshot import Delivery, SnapshotManifest, TruncatedBody
from nightly.snapshots.body import Body, RowTest
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.cleaning import Cleaner
from nightly.snapshots.columns import (
    SnapshotSchema,
    column_names,
    column_types,
    read_snapshot_schema,
    unnamed_columns,
)
from nightly.snapshots.conversion import Conversion
from nightly.snapshots.errors import (
    TooManyRejectedError,
    TruncatedBodyError,
    UnreadableBodyError,
)
from nightly.snapshots.parsing import parse_numbers, parse_times
from nightly.snapshots.readers import bodies, read
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.times import Times
from nightly.state import current, fetch
from nightly.state.errors import DamagedStateError

log = logging.getLogger("nightly")

WORDS = {"int64": "whole numbers", "float": "numbers", "string": "text"}


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

    - Rows: those with window_start <= time < as_of - late_days, where a date is its midnight; without a time column,
      all. Of these, the ones that were known at the as-of time, if data.known_at says so. If there are none, the result
      has rows=0 and no snapshot.
    - Types: those of `schema`, by default the model's curated schema. A column that is not in it stays a string. If a
      column as a whole has another type (see _retyped), it keeps that type, and the data gate judges it.
    - Bad rows: in `folder`/rejected.parquet, also after an error.

    Raises SnapshotError.
    """
    data = config.data
    window = (night.window_start, night.as_of - dt.timedelta(days=data.late_days))
    streams = [body for file in download.files for body in bodies(_unchanged(file), file.suffix, file.partition)]
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
            for name, kind in error.retyped.items():
                log.warning(
                    "%s holds %s, and the schema says %s: it keeps the data's type, and the data gate judges it",
                    *(name, WORDS[kind], WORDS[columns[name]]),
                )
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
        SnapshotBuilder(
            store,
            columns,
            time_column=data.time_column,
            id_columns=data.id_columns,
            known_at=data.known_at,
            keep_equal=data.equal_rows == "keep",
        ) as builder,
    ):
        cleaner = Cleaner(conversion, Times(data, *window, night.as_of), rejects)
        for body, renamed in streams:
            for batch in read(body, renamed, rejects, _row_test(body, renamed, data), columns):
                builder.add(cleaner.clean(batch, body))
        rejects.close()
        _log_rows(cleaner, rejects, builder.rows, len(streams))
        delivery = _delivery(cleaner, rejects, builder.rows, streams)
        _check_share(config, rejects, builder.rows, columns)
        if not builder.rows:
            _check_not_cut(delivery.truncated)
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
    return _reference(store, manifest, created, delivery, builder.superseded)


def _reference(
    store: SnapshotStore, manifest: SnapshotManifest, created: bool, delivery: Delivery, superseded: int
) -> SnapshotRef:
    """Return the night's reference to the snapshot, with the delivery's rows that are not in it, and log both.

    :param superseded: rows of which a later version is in the delivery
    """
    duplicates = delivery.rows - manifest.rows - superseded
    log.info(
        "snapshot %s %s: %s rows%s, %s duplicates and %s earlier versions left out",
        *(manifest.snapshot_id, "created" if created else "exists already", f"{manifest.rows:,}"),
        f" from {manifest.first_row} to {manifest.last_row}" if manifest.first_row else "",
        *(f"{duplicates:,}", f"{superseded:,}"),
    )
    return SnapshotRef(
        snapshot_id=manifest.snapshot_id,
        path=str(store.path(manifest.snapshot_id).absolute()),
        rows=manifest.rows,
        created=created,
        delivery=delivery.model_copy(update={"duplicate_rows": duplicates, "superseded": superseded}),
    )


def _log_rows(cleaner: Cleaner, rejects: Rejects, rows: int, bodies: int) -> None:
    seen, times = cleaner.seen, cleaner.times
    log.info(
        "%s bodies, %s readable rows: %s in the window %s to %s, %s outside it; %s rejected",
        *(bodies, f"{seen.rows:,}", f"{rows:,}", times.start, times.end, f"{seen.outside:,}", f"{rejects.rows:,}"),
    )
    if seen.not_known_yet:
        log.info("%s rows of the window were known only after %s", f"{seen.not_known_yet:,}", times.as_of)
    for count in rejects.counts():
        log.warning("%s rows rejected for %s, e.g. %r", count.rows, count.fault, count.example)


def _delivery(cleaner: Cleaner, rejects: Rejects, rows: int, streams: list[tuple[Body, dict[str, str]]]) -> Delivery:
    seen = cleaner.seen
    return Delivery(
        rows=rows,
        not_known_yet=seen.not_known_yet,
        outside=seen.outside,
        oldest=seen.oldest,
        newest=seen.newest,
        rejected=rejects.counts(),
        truncated=_truncated(streams),
        without_newline=[body.name for body, _ in streams if body.without_newline],
        unnamed=unnamed_columns(streams),
    )


def _check_not_cut(truncated: list[TruncatedBody]) -> None:
    """Raise TruncatedBodyError if there are no rows, and a body was cut before them."""
    if truncated:
        raise TruncatedBodyError(
            f"{truncated[0].file} is truncated: {truncated[0].reason}, "
            "and no row before the cut is in the window. Have it delivered again."
        )


def _truncated(streams: list[tuple[Body, dict[str, str]]]) -> list[TruncatedBody]:
    bodies = [body for body, _ in streams if body.truncated]
    for body in bodies:
        log.warning("%s is truncated: %s: %r", body.name, body.truncated, body.cut_row)
    return [TruncatedBody(file=body.name, reason=body.truncated, text=body.cut_row) for body in bodies]


def _unchanged(file: DownloadedFile) -> Path:
    """Return the path of a body with the hash that it was downloaded with. Raises UnreadableBodyError."""
    path = Path(file.path)
    try:
        if file.run_id:  # not a local file, which is read where it is
            fetch(path)
        actual = hash_file(path)
        if actual != file.sha256 and file.run_id and current().restore(path):
            actual = hash_file(path)
    except OSError as error:
        raise UnreadableBodyError(f"{path}: {error.strerror}; run the download again.") from error
    except DamagedStateError as error:
        raise UnreadableBodyError(f"{path} is damaged in the bucket ({error}); run the download again.") from error
    if actual != file.sha256:
        raise UnreadableBodyError(f"{path} has changed since it was downloaded; run the download again.")
    return path


def _row_test(body: Body, renamed: dict[str, str], data: Data) -> RowTest:
    """Return a test for rows of `body`: as many fields as headers, and a valid time in the time column, if any."""
    time_index = next((n for n, header in enumerate(body.headers) if renamed[header] == data.time_column), None)

    def is_row(fields: list[str]) -> bool:
        if len(fields) != len(body.headers):
            return False
        if not data.time_column:
            return len(fields) > 1  # any line is a field
        if time_index is None:
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
            f"{worst.fault}, e.g. {worst.place}. All are in {rejects.path.name} in the night's folder, each with its "
            "reason.",
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
