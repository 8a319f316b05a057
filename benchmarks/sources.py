"""The same trips from CSV, PostgreSQL, an S3 server and a Delta table: seconds, memory, and the snapshot's id.

Each side runs in a process of its own. `Arrow alone` only copies the source's rows to one Parquet file, without window,
types, ids or order; `pandas.read_sql` does it by way of a DataFrame, with the same driver. The second night on the S3
server is a day later: it shows what a night costs that has fetched the rest of its window before.
"""

import datetime as dt
import io
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from benchmarks import trips
from benchmarks.common import Goal, Measured, Result, forked, main, say
from benchmarks.servers import postgresql, s3, s3_client, uri
from nightly.records.config import ModelConfig
from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.night import Download, Night, utc_now
from nightly.records.source_config import SourceConfig
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch

FIRST_DAY, DAYS = dt.date(2015, 1, 1), 365  # of the first night's window
BUCKET, TABLE = "trips", "trips"
DATA = Data(
    id_columns=["trip_id"],
    time_column="picked_up",
    time_format=trips.TIME_FORMAT,
    look_back_days=DAYS,
    label={"column": "big_tipper", "positive": ["1"]},
)


class Side(NamedTuple):
    """A source with its trips, and how Arrow alone reads it."""

    source: dict[str, Any]  # as in [source]
    fill: Callable[[], None]
    arrow: Callable[[], Iterator[pa.RecordBatch]]
    connection: Connection | None = None


def run(quick: bool, folder: Path) -> Result:
    rows = 20_000 if quick else 5_000_000
    folder.mkdir(parents=True, exist_ok=True)
    with postgresql(folder / "postgresql") as database, s3(folder, BUCKET) as bucket:
        sides = sides_of(folder, rows, database, bucket)
        runs = []
        for name, side in sides.items():
            say("%s: writing %s trips", name, f"{rows:,}")
            forked(side.fill)
            runs.append({"source": name, **measured(folder / name, side)})
            say("%s", runs[-1])
        read_sql = forked(with_pandas, database, folder / "pandas.parquet")
        later = next_night(folder / "S3", sides["S3"], rows, bucket)
    return summary(rows, runs, read_sql, later)


def sides_of(folder: Path, rows: int, database: Connection, bucket: Connection) -> dict[str, Side]:
    csv_file, delta = folder / "trips.csv", folder / "delta"
    return {
        "CSV": Side(
            {"kind": "files", "path": str(csv_file)}, partial(fill_csv, csv_file, rows), partial(arrow_csv, csv_file)
        ),
        "PostgreSQL": Side(
            {"kind": "sql", "table": TABLE, "connection": "trips"},
            partial(fill_postgresql, database, rows),
            partial(arrow_postgresql, database),
            database,
        ),
        "S3": Side(
            {"kind": "files", "path": f"s3://{BUCKET}/{{date:%Y/%m/%d}}.parquet", "connection": "trips"},
            partial(fill_s3, bucket, rows),
            partial(arrow_s3, bucket),
            bucket,
        ),
        "Delta": Side(
            # The table is younger than its rows' night, so it has no version of that time.
            {"kind": "table", "format": "delta", "path": str(delta), "time_travel": False},
            partial(fill_delta, delta, rows),
            partial(arrow_delta, delta),
        ),
    }


def measured(folder: Path, side: Side) -> dict[str, Any]:
    """Download, make a snapshot, and let Arrow alone copy the same source."""
    downloaded = forked(download, folder, side, 0)
    made = forked(snapshot, folder, side, downloaded.value)
    alone = forked(copy, side.arrow, folder / "copy.parquet")
    return {
        "snapshot_id": made.value,
        "download": _facts(downloaded),
        "ingest": _facts(made),
        "arrow": _facts(alone),
    }


def next_night(folder: Path, side: Side, rows: int, bucket: Connection) -> dict[str, Any]:
    """Add a day to the S3 server, and fetch the window that ends with it: with the first night's parts, and without."""
    forked(fill_s3, bucket, rows // DAYS, FIRST_DAY + dt.timedelta(days=DAYS), 1)
    second = forked(download, folder, side, 1)
    everything = forked(download, folder / "without", side, 1)
    fetched = sum(file.bytes for file in second.value.files if file.run_id == "night 1")
    return {
        "bytes": fetched,
        "of_bytes": sum(file.bytes for file in everything.value.files),
        "reused": second.value.reused,
        "download": _facts(second),
        "without": _facts(everything),
    }


def _facts(measured: Measured) -> dict[str, float]:
    return {"seconds": round(measured.seconds, 2), "peak_mb": round(measured.peak_mb)}


def download(folder: Path, side: Side, night: int) -> Download:
    """Fetch the window of the first night (0) or the next one (1)."""
    start = dt.datetime.combine(FIRST_DAY, dt.time(), dt.UTC) + dt.timedelta(days=night)
    return fetch(
        _config(side).source,
        window_start=start,
        window_end=start + dt.timedelta(days=DAYS),
        folder=folder / "downloads",
        data=DATA,
        connection=side.connection,
        run_id=f"night {night}",
    )


def snapshot(folder: Path, side: Side, downloaded: Download) -> str:
    """Make the snapshot of the first night, and return its id."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = folder / "schema.pbtxt"
    schema.write_text(trips.CURATED)
    night = Night(
        model="trips",
        run_id="night 0",
        trigger="command",
        requested_by="benchmark",
        as_of=downloaded.window_end,
        window_start=downloaded.window_start,
        release=False,
        train_steps=1,
        code_version="",
        planned_at=utc_now(),
    )
    store = SnapshotStore(folder / "snapshots", "trips")
    return ingest(_config(side), night, downloaded, store, folder=folder / "night", schema=schema).snapshot_id


def _config(side: Side) -> ModelConfig:
    source = TypeAdapter(SourceConfig).validate_python(side.source)
    return ModelConfig(name="trips", description="Trips.", source=source, data=DATA)


def copy(read: Callable[[], Iterator[pa.RecordBatch]], target: Path) -> None:
    """Write what Arrow reads to one Parquet file."""
    batches = read()
    first = next(batches)
    with pq.ParquetWriter(target, first.schema) as writer:
        for batch in itertools.chain([first], batches):
            writer.write_batch(batch)


def with_pandas(database: Connection, target: Path) -> None:
    import pandas as pd
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri(database)) as connection:
        pd.read_sql(f"SELECT * FROM {TABLE}", connection).to_parquet(target)


def fill_csv(path: Path, rows: int) -> None:
    place = trips.SCHEMA.get_field_index("picked_up")
    time = pa.field("picked_up", pa.timestamp("s"))
    with pa.csv.CSVWriter(path, trips.SCHEMA.set(place, time)) as writer:
        for _, batch in trips.days(rows, FIRST_DAY, DAYS):
            writer.write_batch(batch.set_column(place, time, batch.column(place).cast(time.type)))


def fill_postgresql(database: Connection, rows: int) -> None:
    from adbc_driver_postgresql import dbapi

    batches = (batch for _, batch in trips.days(rows, FIRST_DAY, DAYS))
    with dbapi.connect(uri(database)) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(TABLE, pa.RecordBatchReader.from_batches(trips.SCHEMA, batches), mode="create")
        cursor.execute(f"CREATE INDEX ON {TABLE} (picked_up)")
        connection.commit()


def fill_s3(bucket: Connection, rows: int, first: dt.date = FIRST_DAY, days: int = DAYS) -> None:
    client = s3_client(bucket)
    for day, batch in trips.days(rows, first, days):
        body = io.BytesIO()
        pq.write_table(pa.Table.from_batches([batch]), body)
        client.put_object(Bucket=BUCKET, Key=f"{day:%Y/%m/%d}.parquet", Body=body.getvalue())


def fill_delta(path: Path, rows: int) -> None:
    from deltalake import write_deltalake

    schema = trips.SCHEMA.set(1, pa.field("picked_up", pa.timestamp("us", "UTC")))  # Delta has no seconds
    batches = (batch.cast(schema) for _, batch in trips.days(rows, FIRST_DAY, DAYS))
    write_deltalake(path, pa.RecordBatchReader.from_batches(schema, batches))


def arrow_csv(path: Path) -> Iterator[pa.RecordBatch]:
    yield from pa.csv.open_csv(path)


def arrow_postgresql(database: Connection) -> Iterator[pa.RecordBatch]:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri(database)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE}")
        yield from cursor.fetch_record_batch()


def arrow_s3(bucket: Connection) -> Iterator[pa.RecordBatch]:
    from pyarrow import fs

    store = fs.S3FileSystem(
        access_key=bucket.login,
        secret_key=bucket.password.get_secret_value(),
        endpoint_override=bucket.extra["endpoint_url"],
        region=bucket.extra["region_name"],
    )
    yield from pa.dataset.dataset(BUCKET, filesystem=store).to_batches()


def arrow_delta(path: Path) -> Iterator[pa.RecordBatch]:
    from deltalake import DeltaTable

    yield from DeltaTable(path).to_pyarrow_dataset().to_batches()


def summary(rows: int, runs: list[dict[str, Any]], read_sql: Measured, later: dict[str, Any]) -> Result:
    table, ratios = [], {}
    for side in runs:
        download, made, alone = (side[part]["seconds"] for part in ("download", "ingest", "arrow"))
        ratios[side["source"]] = (download + made) / alone
        table.append(
            {
                "source": side["source"],
                "download, s": download,
                "snapshot, s": made,
                "largest process, MB": max(side["download"]["peak_mb"], side["ingest"]["peak_mb"]),
                "Arrow alone, s": alone,
                "download, of Arrow's time": round(download / alone, 2),
                "both, of Arrow's time": round(ratios[side["source"]], 2),
            }
        )
    database = next(side for side in runs if side["source"] == "PostgreSQL")
    peak = max(side[part]["peak_mb"] for side in runs for part in ("download", "ingest"))
    ids = {side["snapshot_id"] for side in runs}
    goals = [
        Goal(f"other snapshot ids of the same {rows:,} rows from four sources", len(ids) - 1, "", at_most=0),
        Goal(f"largest process of a download or snapshot of {rows:,} rows", peak, "MB", at_most=2048),
        Goal(
            "download from PostgreSQL, of the time of pandas.read_sql",
            round(database["download"]["seconds"] / read_sql.seconds, 2),
            "×",
            at_most=1,
        ),
        Goal(
            "bytes of the next night, of those of the window",
            round(later["bytes"] / later["of_bytes"], 4),
            "×",
            at_most=0.01,
        ),
    ]
    beside_pandas = {
        "rows": f"{rows:,}",
        "download, s": database["download"]["seconds"],
        "its process, MB": database["download"]["peak_mb"],
        "pandas.read_sql to Parquet, s": round(read_sql.seconds, 2),
        "its process's, MB": round(read_sql.peak_mb),
        "ratio": round(database["download"]["seconds"] / read_sql.seconds, 2),
    }
    incremental = [
        {"night": "the first", "MB": later["of_bytes"] / 1e6, "seconds": later["without"]["seconds"]},
        {"night": "the next", "MB": later["bytes"] / 1e6, "seconds": later["download"]["seconds"]},
    ]
    tables = {
        f"{rows:,} trips of a year from each source": table,
        "PostgreSQL beside pandas": [beside_pandas],
        f"A window of {DAYS} days on the S3 server, a file a day": [
            {**row, "MB": round(row["MB"], 2)} for row in incremental
        ],
    }
    facts = {"median_ratio": statistics.median(ratios.values()), "pandas": _facts(read_sql), "next_night": later}
    return Result(goals, tables, [*runs, facts])


if __name__ == "__main__":
    main(run)
