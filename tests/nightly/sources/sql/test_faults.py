"""What a database refuses is said in one sentence, without the password."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import time

import pytest
from pydantic import SecretStr

from nightly.io.space import SpaceError
from nightly.records.connection import Connection
from nightly.records.source_config import SqlSource
from nightly.sources import fetch
from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError
from tests.nightly.sources.sql.conftest import WINDOW, Nights, rows


def error_of(nights, kind=RefusedError, **source):
    """The sentence of a night's error, which is one, and has no password."""
    with pytest.raises(kind) as failed:
        nights.fetch(**({"table": "trips"} | source))
    text = str(failed.value)
    password = nights.connection.password.get_secret_value()
    assert "\n" not in text and "SQLSTATE" not in text and (not password or password not in text), text
    return text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password": SecretStr("wr@ng/%2")}, "refuses the login 'airflow' or its password"),
        ({"password": SecretStr("")}, "refuses the login 'airflow' or its password"),
        ({"login": "nobody"}, "refuses the login 'nobody' or its password"),
        ({"host": "db.invalid"}, "there is no host 'db.invalid'"),
        ({"database": "nowhere"}, "there is no database 'nowhere'"),
        ({"extra": {"options": "-c timezone=Europe/Berln"}}, "there is no time zone 'Europe/Berln'"),
        ({"extra": {"sslmode": "verify"}}, "cannot be reached: .*sslmode"),
    ],
)
def test_a_connection_that_is_wrong(nights, change, sentence):
    nights.connection = nights.connection.model_copy(update=change)
    with pytest.raises(SourceError, match=sentence):
        nights.fetch(table="trips")
    error_of(nights, SourceError)


def test_a_port_where_nothing_listens_is_tried_again(nights):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nights.connection = nights.connection.model_copy(update={"port": port})
    text = error_of(nights, ConnectionFailedError)
    assert text.startswith(f"postgresql://127.0.0.1:{port}/postgres refuses connections")
    assert ConnectionFailedError.retry and not RefusedError.retry


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"table": "tripps"}, "relation \"tripps\" does not exist (line 1, column 15 of the query, at '\"tripps\"')"),
        ({"table": "tripps"}, "; did you mean 'trips'?"),
        ({"table": "publik.trips"}, "did you mean 'public.trips'?"),
        ({"columns": ["idd"]}, "trips has no column 'idd' of source.columns; did you mean 'id'?"),
        ({"changed_at": "chnged"}, "trips has no column 'chnged' of source.changed_at; did you mean 'changed'?"),
        ({"time_column": "att"}, "trips has no column 'att', which is data.time_column; did you mean 'at'?"),
        ({"time_column": "cab"}, "the time column 'cab' is text, and text of the format '%d.%m.%Y' does not sort"),
        ({"time_column": "id"}, "the time column 'id' has numbers, and data.time_format is '%d.%m.%Y'"),
        ({"query": "SELECT a.*, b.at FROM trips a, trips b"}, "two columns named 'at': name each with AS"),
        (
            {"query": "SELECT *\nFROM trips\nWHERE at >= :window_start AND aera = 1"},
            "column \"aera\" does not exist (line 3, column 31 of the query, at 'aera = 1'): Perhaps you meant to "
            'reference the column "trips.area"',
        ),
        (
            {"query": "SELECT *\nFROM trips WERE at < :window_end"},
            "syntax error at or near \"at\" (line 2, column 17 of the query, at 'at < ",
        ),
        ({"query": "SELECT at AT TIME ZONE 'Berln' AS at FROM trips"}, 'time zone "Berln" not recognized'),
        ({"query": "SELECT * FROM trips WHERE id >= :window_start"}, "operator does not exist: integer >= timestamp"),
        ({"query": "SELECT id / 0 AS x, at FROM trips"}, "division by zero"),
        ({"time_column": "", "query": "SELECT * FROM trips WHERE at > :window_start"}, "and data.time_column is empty"),
    ],
)  # fmt: skip
def test_a_table_or_query_that_is_wrong(nights, trips, source, sentence):
    nights.time_format = "%d.%m.%Y"
    assert sentence in error_of(nights, **({"table": ""} if "query" in source else {}) | source)


def test_a_table_that_the_login_may_not_read(nights, trips, run):
    run("DROP ROLE IF EXISTS guest")
    run("CREATE ROLE guest LOGIN PASSWORD 'g u@st'")
    nights.connection = nights.connection.model_copy(update={"login": "guest", "password": SecretStr("g u@st")})
    assert "permission denied for table trips for 'guest': have it granted" in error_of(nights)


def test_a_statement_that_takes_too_long(nights, trips):
    nights.connection = nights.connection.model_copy(update={"extra": {"options": "-c statement_timeout=200"}})
    slow = "SELECT trips.*, pg_sleep(0.1) FROM trips"
    text = error_of(nights, SourceError, table="", query=slow)
    assert "canceling statement due to statement timeout. Index the time column, lower source.slice_days" in text


def test_a_full_disk_leaves_no_part_half_made(nights, trips, monkeypatch):
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    nights.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=72m", "tmpfs", nights.folder]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode:
        pytest.skip(f"a small file system could not be mounted: {done.stderr}")
    other = nights.folder / "other"

    def fill(number):
        if number == 2:
            with contextlib.suppress(OSError), other.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))

    try:
        read = nights.puts(monkeypatch, fill)
        with pytest.raises(SpaceError, match="became full while"):
            nights.fetch(table="trips", settled_days=0)
        other.unlink()
        assert len(rows(nights.fetch(table="trips", settled_days=0))) == 144
        assert [name[-2:] for name in read] == ["03", "04", "05", "06", "07", "08"]
    finally:
        subprocess.run(["umount", "-l", nights.folder], check=True)


def test_sqlite(tmp_path):
    path = tmp_path / "trips.db"
    nights = Nights(tmp_path / "downloads", Connection(conn_type="sqlite", host=str(path)), "%Y-%m-%d")
    assert error_of(nights) == f"{path} does not exist, or is no file: correct the connection's path."
    path.write_bytes(b"not a database" * 100)
    assert "file is not a database" in error_of(nights)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE trips (id INTEGER, at TEXT)")
        database.execute("INSERT INTO trips VALUES (1, '2016-01-04')")
    assert error_of(nights, table="tripps").endswith("has no table 'tripps'; did you mean 'trips'?")
    assert "two columns named 'at'" in error_of(nights, table="", query="SELECT a.*, b.at FROM trips a, trips b")
    assert "no such column: aat" in error_of(nights, table="", query="SELECT aat FROM trips")
    nights.connection = Connection(conn_type="sqlite+pysqlite", schema=str(path))
    assert error_of(nights, table="tripps").endswith("no such table: tripps; did you mean 'trips'?")
    assert "two columns named 'at'" in error_of(nights, table="", query="SELECT a.*, b.at FROM trips a, trips b")
    nights.connection = Connection(conn_type="sqlite", schema="trips.db")
    assert "give the file's whole path" in error_of(nights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conn_type", "sentence"),
    [
        ("snowflake", "is read through the package adbc-driver-snowflake, which is not installed"),
        ("gcpbigquery", "is read through the package adbc-driver-bigquery, which is not installed"),
        ("oracle", "is read through the package oracledb, which is not installed"),
        ("mainframe", "SQLAlchemy has no dialect 'mainframe'"),
    ],
)
def test_a_database_whose_driver_is_not_installed(nights, conn_type, sentence):
    nights.connection = nights.connection.model_copy(update={"conn_type": conn_type})
    assert sentence in error_of(nights)


def test_a_source_without_its_connection(tmp_path):
    for source, sentence in (
        (SqlSource(table="trips"), "source.connection names no Airflow connection"),
        (SqlSource(table="trips", connection="db"), "for bin/night set AIRFLOW_CONN_DB, e.g. to postgres://"),
    ):
        with pytest.raises(RefusedError, match=sentence):
            fetch(source, window_start=WINDOW[0], window_end=WINDOW[1], folder=tmp_path)


def test_a_server_that_does_not_answer_is_given_up(nights):
    nights.connection = nights.connection.model_copy(update={"extra": {"connect_timeout": "2"}})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nights.connection = nights.connection.model_copy(update={"port": silent.getsockname()[1]})
        began = time.monotonic()
        assert "does not answer" in error_of(nights, ConnectionFailedError)
        assert time.monotonic() - began < 20
