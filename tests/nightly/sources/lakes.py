"""Tables of both formats, on files and on an S3 server, and the nights that read them."""

import datetime as dt
import time
from decimal import Decimal
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog

from nightly.records.config import DataGate, ModelConfig
from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel
from nightly.records.source_config import FilesSource, TableSource
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from nightly.sources.cloud_credentials import store_options
from tests.support.nights import a_night, utc

START, END = utc(2016, 3, 1), utc(2016, 3, 8)
SCHEMA = """
feature { name: "trip" type: INT }
feature { name: "fare" type: FLOAT }
feature { name: "toll" type: FLOAT }
feature { name: "seats" type: INT }
feature { name: "company" type: BYTES }
feature { name: "tags" type: BYTES value_count { min: 1 max: 9 } }
"""
DATA = {"id_columns": ["trip"], "time_column": "started_at", "label": BinaryLabel(column="company", positive=["A"])}
NAMES = count()


def trips(day, *, first=0, rows=4, fare=10.5):
    """Trips of a day of March 2016, of all types that a row can have."""
    ids = [day * 100 + first + n for n in range(rows)]
    started = [dt.datetime(2016, 3, day, 6 + n, 30, 0, 250_000, tzinfo=dt.UTC) for n in range(rows)]
    return pa.table(
        {
            "trip": pa.array(ids),
            "Started At": pa.array(started, pa.timestamp("us", "UTC")),
            "fare": pa.array([fare + 0.1 * n if n % 3 else None for n in range(rows)], pa.float64()),
            "toll": pa.array([Decimal(n) / 4 for n in range(rows)], pa.decimal128(10, 2)),
            "seats": pa.array([n % 2 for n in range(rows)], pa.int32()),
            "company": ["A", 'B "Süd", GmbH', None, "A"][:rows],
            "tags": pa.array([["x", "y"]] * rows, pa.list_(pa.string())),
        }
    )


def now():
    return dt.datetime.now(dt.UTC)


class Lake:
    """A table, in a folder or a bucket.

    :ivar tick: the longest time in which two commits may have the same time, in seconds
    """

    format = ""

    def __init__(self, folder, s3=None):
        self.folder, self.s3 = folder, s3
        self.tick = 1.1 if s3 and self.format == "delta" else 0.01
        root = f"s3://lake/{next(NAMES)}" if s3 else str(folder / "lake")
        self.options = store_options(s3.connection()) if s3 else None
        self.create(root)

    def source(self, **keys):
        return TableSource(format=self.format, path=self.path, **keys)

    def moment(self):
        """Return a time after all commits so far, and before the next."""
        time.sleep(self.tick)
        moment = now()
        time.sleep(self.tick)
        return moment


class DeltaLake(Lake):
    format = "delta"

    def create(self, root):
        self.path, self.storage = root, self.options.for_delta() if self.options else None
        self.connection = self.s3.connection() if self.s3 else None

    @property
    def table(self):
        return DeltaTable(self.path, storage_options=self.storage)

    def append(self, rows, **keys):
        write_deltalake(self.path, rows, mode="append", storage_options=self.storage, **keys)

    def delete(self, trip):
        self.table.delete(f"trip = {trip}")

    def compact(self):
        self.table.optimize.compact()


class IcebergLake(Lake):
    format = "iceberg"

    def create(self, root):
        properties = {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db"}
        properties["warehouse"] = root if self.s3 else f"file://{root}"
        properties |= self.options.for_iceberg() if self.options else {}
        self.connection = Connection(conn_type="iceberg", extra=properties)
        self.catalog = load_catalog("default", **properties)
        self.catalog.create_namespace_if_not_exists("lake")
        self.path = "lake.trips"

    @property
    def table(self):
        return self.catalog.load_table(self.path)

    def append(self, rows):
        self.catalog.create_table_if_not_exists(self.path, schema=rows.schema).append(rows)

    def delete(self, trip):
        self.table.delete(f"trip = {trip}")

    def compact(self):
        self.table.overwrite(self.table.scan().to_arrow())


class Nights:
    """Fetches and ingests as nights of one model do, one after the other."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        (folder / "schema.pbtxt").write_text(SCHEMA)
        self.runs = count()
        self.download = None

    def fetch(self, source, connection=None, *, as_of=None, start=START, end=END, data=None):
        """Fetch the window as a night of its own; return the download."""
        self.download = fetch(
            source,
            window_start=start,
            window_end=end,
            as_of=as_of or now(),
            folder=self.folder / "downloads",
            data=Data(**DATA | (data or {})),
            connection=connection,
            run_id=f"run-{next(self.runs)}",
        )
        return self.download

    def rows(self):
        """Return the rows of the last download, by trip."""
        rows = [row for file in self.download.files for row in pq.read_table(file.path).to_pylist()]
        return sorted(rows, key=lambda row: row.get("trip") or 0)

    def snapshot(self, source, connection=None, **keys):
        """Fetch and ingest the window; return the snapshot's id."""
        download = self.fetch(source, connection, **keys)
        config = ModelConfig(
            name="test", description="", source=source, data=Data(**DATA), data_gate=DataGate(max_rejected_share=0.0)
        )
        night = a_night(model="test", run_id="night", as_of=END, window_start=START, code_version="abc")
        store = SnapshotStore(self.folder / "snapshots", "test")
        folder = self.folder / "night"
        return ingest(config, night, download, store, folder=folder, schema=self.folder / "schema.pbtxt").snapshot_id

    def snapshot_of_csv(self, *tables):
        """Return the id of the snapshot of the same rows in a CSV file."""
        lines = ["trip,Started At,fare,toll,seats,company,tags"]
        for row in (row for table in tables for row in table.to_pylist()):
            tags = '"[' + ", ".join(f'""{tag}""' for tag in row["tags"]) + ']"'
            company = '"' + row["company"].replace('"', '""') + '"' if row["company"] else ""
            fare = "" if row["fare"] is None else row["fare"]
            started = f"{row['Started At']:%Y-%m-%d %H:%M:%S.%f}"
            lines.append(f"{row['trip']},{started},{fare},{row['toll']},{row['seats']},{company},{tags}")
        path = Path(self.folder / "trips.csv")
        path.write_text("\n".join(lines) + "\n")
        source = FilesSource(path=str(path))
        download = fetch(source, window_start=START, window_end=END, folder=self.folder / "csv")
        data = Data(**DATA, time_format="%Y-%m-%d %H:%M:%S.%f")
        config = ModelConfig(name="test", description="", source=source, data=data)
        night = a_night(model="test", run_id="csv", as_of=END, window_start=START, code_version="abc")
        store = SnapshotStore(self.folder / "snapshots", "test")
        schema = self.folder / "schema.pbtxt"
        return ingest(config, night, download, store, folder=self.folder / "night", schema=schema).snapshot_id
