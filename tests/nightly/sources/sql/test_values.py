"""Values of every type: what arrives in the snapshot, and that it is the same from every database."""

import csv
import json
import random
import sqlite3
import uuid
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from nightly.records.config import DataGate, ModelConfig
from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel
from nightly.records.source_config import FilesSource, SqlSource
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from tests.nightly.sources.sql.conftest import WINDOW, rows
from tests.support.nights import a_night

SCHEMA = {
    "id": "INT", "at": "BYTES", "day": "BYTES", "ended": "BYTES", "fare": "FLOAT", "miles": "FLOAT", "paid": "INT",
    "payment": "BYTES", "ref": "BYTES", "note": "BYTES", "count": "INT", "small": "FLOAT",
}  # fmt: skip
POSTGRESQL = """id bigint, at timestamp, day date, ended timestamp, fare numeric(8,2), miles float8, paid boolean,
    payment text, ref uuid, note json, count smallint, small real"""
SQLITE = """id INTEGER, at TEXT, day TEXT, ended TEXT, fare REAL, miles REAL, paid INTEGER, payment TEXT, ref TEXT,
    note TEXT, count INTEGER, small REAL"""


def table():
    """300 rows, as CSV has them."""
    dice = random.Random(1)
    for number in range(300):
        day = f"2016-01-{1 + number % 9:02}"
        yield {
            "id": number,
            "at": f"{day} {number % 24:02}:00:0{number % 10}",
            "day": day,
            "ended": f"{day} 23:59:59" + dice.choice(["", ".5", ".123456"]),
            "fare": dice.choice(["", "12.50", "3", f"{dice.random() * 90:.2f}"]),
            "miles": dice.choice(["", repr(dice.random() * 20), "0.1", "1e-07", "100000000000000000000"]),
            "paid": dice.choice(["", 0, 1]),
            "payment": dice.choice(["", "Cash", "Crédit, card", 'a "quoted"\nline', " blank "]),
            "ref": dice.choice(["", str(uuid.UUID(int=dice.getrandbits(128)))]),
            "note": dice.choice(["", json.dumps({"a": [1, None]})]),
            "count": dice.choice(["", dice.randrange(-30_000, 30_000)]),
            "small": dice.choice(["", "1.5", "0.1", "-2.25"]),
        }


class Snapshots:
    """Makes snapshots of a source."""

    def __init__(self, folder):
        self.folder = folder
        self.schema = folder / "schema.pbtxt"
        self.declare(SCHEMA)
        self.store = SnapshotStore(folder / "snapshots", "test")

    def declare(self, types):
        self.schema.write_text("".join(f'feature {{ name: "{name}" type: {kind} }}\n' for name, kind in types.items()))

    def of(self, source, connection=None, **data):
        data = {"id_columns": ["id"], "time_column": "at", "time_format": "%Y-%m-%d %H:%M:%S"} | data
        config = ModelConfig(
            name="test", description="", source=source, data_gate=DataGate(max_rejected_share=0.2),
            data=Data(label=BinaryLabel(column="payment", positive=["Cash"]), **data),
        )  # fmt: skip
        night = a_night(model="test", run_id="r1", as_of=WINDOW[1], window_start=WINDOW[0], release=False)
        details = SimpleNamespace(**{"time_zone": "UTC"} | config.data.model_dump())
        download = fetch(
            source, window_start=WINDOW[0], window_end=WINDOW[1], folder=self.folder / "downloads",
            connection=connection, data=details,
        )  # fmt: skip
        return ingest(config, night, download, self.store, folder=self.folder / "night", schema=self.schema)

    def rows(self, ref):
        return [
            row
            for path in self.store.path(ref.snapshot_id).glob("*.parquet")
            for row in pq.read_table(path).to_pylist()
        ]


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path)


def test_the_same_rows_are_the_same_snapshot_from_every_source(snapshots, tmp_path, server, run, postgresql):
    path = tmp_path / "trips.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(SCHEMA))
        writer.writeheader()
        writer.writerows(table())
    run("DROP TABLE IF EXISTS trips")
    run(f"CREATE TABLE trips ({POSTGRESQL})")
    server.load_csv("postgres", "trips", path)
    with sqlite3.connect(tmp_path / "trips.db") as database:
        database.execute(f"CREATE TABLE trips ({SQLITE})")
        places = ", ".join("?" * len(SCHEMA))
        values = ([None if value == "" else value for value in row.values()] for row in table())
        database.executemany(f"INSERT INTO trips VALUES ({places})", values)
    of_csv = snapshots.of(FilesSource(path=str(path)))
    assert of_csv.rows == 183
    for kind, details in {
        "postgres": postgresql.model_dump(exclude={"conn_type"}),
        "sqlite": {"host": str(tmp_path / "trips.db")},
        "sqlite+pysqlite": {"database": str(tmp_path / "trips.db")},
    }.items():
        for source in (
            SqlSource(connection="db", table="trips"),
            SqlSource(connection="db", query="SELECT * FROM trips WHERE at < :window_end", slice_days=4),
        ):
            ref = snapshots.of(source, Connection(conn_type=kind, **details))
            assert (ref.snapshot_id, ref.rows) == (of_csv.snapshot_id, 183), kind


# column's SQL -> what the part has
VALUES = {
    "true": True,
    "12.50::numeric": "12.50",
    "'NaN'::numeric": "nan",
    "'{\"a\": 1}'::json": '{"a": 1}',
    "'{\"a\": 1}'::jsonb": '{"a": 1}',
    "'00000000-0000-0000-0000-00000000000f'::uuid": "00000000-0000-0000-0000-00000000000f",
    "array[1, null, 2]": [1, None, 2],
    "array[1.5, 2]::numeric[]": ["1.5", "2"],
    "array['a', 'b']": ["a", "b"],
    "'{}'::text[]": [],
    "array['00000000-0000-0000-0000-00000000000f'::uuid]": ["00000000-0000-0000-0000-00000000000f"],
    "'\\x00ff'::bytea": b"\x00\xff",
    "'sad'::mood": "sad",
    "interval '1 day 2 hours'": "1 day 02:00:00",
    "time '12:30'": "12:30:00",
    "inet '10.0.0.1'": "10.0.0.1/32",
    "12.5::money": "$12.50",
    "int4range(1, 3)": "[1,3)",
    "row(1, 'a')": "(1,a)",
    "timestamp 'infinity'": None,
    "date '-infinity'": None,
    "'x'::char(3)": "x  ",
    "null": None,
}


def test_what_arrives_of_each_type_of_postgresql(nights, run):
    run("DROP TYPE IF EXISTS mood")
    run("CREATE TYPE mood AS ENUM ('ok', 'sad')")
    columns = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(VALUES))
    (row,) = rows(nights.fetch(query=f"SELECT timestamp '2016-01-04 01:00' AS at, {columns}"))
    assert dict(zip(VALUES, list(row.values())[1:], strict=True)) == VALUES


def test_lists_bytes_and_bad_numbers_reach_the_snapshot(snapshots, run, postgresql):
    run("DROP TABLE IF EXISTS wide")
    run("""CREATE TABLE wide AS SELECT n AS id, timestamp '2016-01-04' AS at, 'Cash' AS payment, array[n, 2]::float4[]
        AS vector, '\\x0102'::bytea AS image, CASE n WHEN 1 THEN 'NaN' ELSE 1.5 END::float8 AS fare
        FROM generate_series(0, 9) n""")
    snapshots.declare({"fare": "FLOAT", "id": "INT"})
    ref = snapshots.of(SqlSource(connection="db", table="wide"), postgresql)
    (first, *_) = sorted(snapshots.rows(ref), key=lambda row: row["id"])
    assert (ref.rows, first["vector"], first["image"], first["fare"]) == (9, [0, 2], b"\x01\x02", 1.5)
    (count,) = ref.delivery.rejected
    assert (count.reason, count.column, count.rows) == ("number", "fare", 1)


def test_a_column_whose_type_changed_since_yesterday_keeps_it_for_the_data_gate(snapshots, run, postgresql, caplog):
    run("DROP TABLE IF EXISTS changed")
    run("""CREATE TABLE changed AS SELECT n AS id, timestamp '2016-01-04' AS at, 'Cash' AS payment, 1.5 AS fare
        FROM generate_series(0, 9) n""")
    source = SqlSource(connection="db", table="changed")
    snapshots.declare({"id": "INT", "payment": "BYTES", "fare": "FLOAT"})
    assert snapshots.store.get(snapshots.of(source, postgresql).snapshot_id).columns["fare"] == "float"
    run("ALTER TABLE changed ALTER fare TYPE text USING 'EUR ' || fare")
    assert snapshots.store.get(snapshots.of(source, postgresql).snapshot_id).columns["fare"] == "string"
    assert "fare holds text, and the schema says numbers: it keeps the data's type" in caplog.text
