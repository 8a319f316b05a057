"""Days of a table: what is read, in one view, and what is not read again."""

import datetime as dt
import os
import signal
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from nightly.records.connection import Connection
from nightly.records.source_config import SqlSource
from nightly.sources import open_source
from nightly.sources.base import Context, Window
from nightly.sources.errors import ConnectionFailedError
from tests.nightly.sources.sql.conftest import WINDOW, Nights, rows
from tests.support.nights import utc
from tests.support.postgresql import driver

# type -> (SQL of the hour `h`, data.time_format)
TIMES = {
    "timestamp": ("timestamp '2016-01-01' + h * interval '1 hour'", "%Y-%m-%d"),
    "timestamptz": ("timestamptz '2016-01-01 00:00+00' + h * interval '1 hour'", "%Y-%m-%d"),
    "date": ("date '2016-01-01' + h / 24", "%Y-%m-%d"),
    "bigint": ("1451606400::bigint + h * 3600", "epoch_s"),
    "float8": ("1451606400000::float8 + h * 3600000", "epoch_ms"),
    "numeric": ("1451606400::numeric + h * 3600", "epoch_s"),
    "integer": ("to_char(date '2016-01-01' + h / 24, 'YYYYMMDD')::integer", "%Y%m%d"),
    "text": ("to_char(timestamp '2016-01-01' + h * interval '1 hour', 'YYYY-MM-DD HH24:MI:SS')", "%Y-%m-%d %H:%M:%S"),
}


QUERY = "SELECT * FROM times WHERE at >= :window_start AND at < :window_end -- all"


@pytest.mark.parametrize(
    ("kind", "query"), [*((kind, "") for kind in TIMES), ("timestamptz", QUERY), ("bigint", QUERY), ("text", QUERY)]
)
def test_the_window_is_bound_in_the_time_columns_own_type(nights, run, kind, query):
    expression, nights.time_format = TIMES[kind]
    run("DROP TABLE IF EXISTS times")
    run(f"CREATE TABLE times AS SELECT h, {expression} AS at, 5 - h % 5 AS changed FROM generate_series(0, 239) h")
    source = {"query": query} if query else {"table": "public.times"}
    download = nights.fetch(**source, changed_at="changed")
    assert [row["h"] for row in rows(download)] == list(range(48, 192))
    assert [file.origin[-10:] for file in download.files] == [f"2016-01-{day:02}" for day in range(3, 9)]
    run(f"UPDATE times SET changed = 6 WHERE h = {24 * 5}")
    again = nights.fetch(**source, changed_at="changed", run_id="r2")
    assert (again.reused, [name[-10:] for name in again.revised]) == (5, ["2016-01-06"])


def test_days_without_an_offset_are_those_of_the_time_zone(nights, trips):
    nights.time_zone = "America/Chicago"
    # A day more than the window's, as its bounds are within days there; no day after the window's last one.
    times = [row["at"] for row in rows(nights.fetch(table="trips"))]
    assert (min(times), max(times)) == (dt.datetime(2016, 1, 1), dt.datetime(2016, 1, 8, 23))


def test_slices_of_several_days_are_the_same_every_night(nights, trips):
    first = nights.fetch(table="trips", slice_days=3)
    later = nights.fetch(table="trips", slice_days=3, window=(utc(2016, 1, 4), utc(2016, 1, 9)), run_id="r2")
    assert [file.origin for file in later.files] == [file.origin for file in first.files]
    assert {file.sha256 for file in later.files} == {file.sha256 for file in first.files}
    assert not later.revised


def test_only_named_columns_are_read_and_the_time_column(nights, trips):
    (first, *_) = rows(nights.fetch(table="trips", columns=["cab"], time_column="begun", rename={"at": "begun"}))
    assert list(first) == ["at", "cab"]


def test_data_without_a_time_are_one_part(nights, trips, run):
    download = nights.fetch(table="trips", time_column="", changed_at="changed")
    assert len(rows(download)) == 240
    assert nights.fetch(table="trips", time_column="", changed_at="changed", run_id="r2").reused == 1
    run("DELETE FROM trips WHERE id = 3")
    assert len(rows(nights.fetch(table="trips", time_column="", changed_at="changed", run_id="r3"))) == 239


def test_an_empty_window_has_no_files(nights, trips, monkeypatch):
    window = (utc(2017, 1, 1), utc(2017, 1, 3))
    assert nights.fetch(table="trips", window=window).files == []
    assert nights.fetch(table="trips", window=window, changed_at="changed").files == []


def test_a_night_reads_the_days_that_changed(nights, trips, run, monkeypatch):
    nights.fetch(table="trips", changed_at="changed")
    read = nights.puts(monkeypatch)
    window = (WINDOW[0] + dt.timedelta(days=1), WINDOW[1] + dt.timedelta(days=1))
    run("UPDATE trips SET area = 99, changed = '2016-02-02' WHERE id = 100")
    run("DELETE FROM trips WHERE id = 130")
    download = nights.fetch(table="trips", changed_at="changed", window=window, run_id="r2")
    assert [name[-10:] for name in read] == ["2016-01-05", "2016-01-06", "2016-01-09"]
    assert [name[-10:] for name in download.revised] == ["2016-01-05", "2016-01-06"]
    run("ALTER TABLE trips ALTER area TYPE text")
    assert nights.fetch(table="trips", changed_at="changed", window=window, run_id="r3").reused == 0


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "text", "numeric"])
def test_a_change_that_is_committed_behind_a_later_one_is_read(nights, trips, run, server, kind):
    using = "extract(epoch FROM changed)::numeric" if kind == "numeric" else f"changed::{kind}"
    run(f"ALTER TABLE trips ALTER changed TYPE {kind} USING {using}")
    change = "UPDATE trips SET area = 99, changed = ({}::{}) WHERE id = {}"
    began, later = ("1454290000", "1454290005") if kind == "numeric" else ("'2016-02-02 01:00'", "'2016-02-02 01:05'")
    with closing(driver.connect(server.url("postgres"))) as slow, slow.cursor() as cursor:
        cursor.execute(change.format(began, kind, 100))
        run(change.format(later, kind, 101))
        assert [row["area"] for row in rows(nights.fetch(table="trips", changed_at="changed"))].count(99) == 1
        slow.commit()
    download = nights.fetch(table="trips", changed_at="changed", run_id="r2")
    assert [row["area"] for row in rows(download)].count(99) == 2
    assert [name[-10:] for name in download.revised] == ["2016-01-05"]


@pytest.mark.parametrize(
    "times", [("2016-02-01 01:00:00.001", "2016-02-01 01:00:00", "2016-02-02"), (1454290000, 1454280000, 1454290001),
              (1.5, 1.25, 3.75), (1 << 62, (1 << 62) - 5, (1 << 62) + 9)]
)  # fmt: skip
@pytest.mark.parametrize("kind", ["sqlite", "sqlite+pysqlite"])
def test_a_row_in_the_place_of_an_older_one_is_read(tmp_path, kind, times):
    removed, added, latest = times
    path = tmp_path / "trips.db"
    nights = Nights(tmp_path / "downloads", Connection(conn_type=kind, schema=str(path)))
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE trips (at TEXT, changed)")
        database.executemany("INSERT INTO trips VALUES ('2016-01-04', ?)", [(removed,), (latest,), (latest,), (None,)])
        database.commit()
        nights.fetch(table="trips", changed_at="changed")
        assert nights.fetch(table="trips", changed_at="changed", run_id="r2").reused == 6
        database.execute("UPDATE trips SET changed = ? WHERE changed = ?", (added, removed))
        database.commit()
    download = nights.fetch(table="trips", changed_at="changed", run_id="r3")
    assert str(added) in [row["changed"] for row in rows(download)]


def test_settled_days_are_not_asked_for_again(nights, trips, monkeypatch):
    nights.fetch(table="trips", settled_days=1)
    read = nights.puts(monkeypatch)
    assert nights.fetch(table="trips", settled_days=1, run_id="r2").reused == 6
    assert nights.fetch(table="trips", run_id="r3").revised == []
    assert len(read) == 6
    assert nights.fetch(table="trips", settled_days=1, run_id="r4", fresh=True).reused == 0


def opened(connection, **source):
    context = Context(Window(*WINDOW, WINDOW[1]), "at", "%Y-%m-%d %H:%M:%S", connection=connection)
    return open_source(SqlSource(connection="trips", **source), context)


def test_a_night_sees_postgresql_as_it_was_at_its_beginning(trips, run, postgresql, tmp_path):
    source = opened(postgresql, table="trips")
    parts = source.parts()
    source.fetch(parts[0], tmp_path / "0.parquet", "")
    run("DELETE FROM trips")
    source.fetch(parts[4], tmp_path / "4.parquet", "")
    assert pq.read_metadata(tmp_path / "4.parquet").num_rows == 24


@pytest.mark.parametrize("kind", ["sqlite", "sqlite+pysqlite"])
def test_a_night_sees_sqlite_as_it_was_at_its_beginning(tmp_path, kind):
    path = tmp_path / "trips.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE trips (at TEXT, area INTEGER)")
        database.executemany(
            "INSERT INTO trips VALUES (?, 1)", [(f"2016-01-{day:02} 01:00:00",) for day in range(1, 20)]
        )
    source = opened(Connection(conn_type=kind, schema=str(path)), table="trips")
    parts = source.parts()
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM trips")
    source.fetch(parts[4], tmp_path / "4.parquet", "")
    assert pq.read_table(tmp_path / "4.parquet").to_pylist() == [{"at": "2016-01-07 01:00:00", "area": "1"}]


def test_a_connection_that_breaks_keeps_what_it_has_read(nights, trips, run, monkeypatch):
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightly-retrain'"
    read = nights.puts(monkeypatch, lambda number: run(ended) if number == 3 else None)
    with pytest.raises(ConnectionFailedError, match="the connection broke"):
        nights.fetch(table="trips")
    del read[:3]
    read.extend([""] * 3)  # the server is left alone from now on
    assert len(rows(nights.fetch(table="trips", settled_days=0))) == 144
    assert [name[-10:] for name in read[3:]] == ["2016-01-06", "2016-01-07", "2016-01-08"]


def test_a_killed_step_goes_on_where_it_was(nights, trips, monkeypatch):
    child = os.fork()
    if not child:
        with pytest.MonkeyPatch.context() as patch:
            nights.puts(patch, lambda number: number == 4 and os.kill(os.getpid(), signal.SIGKILL))
            nights.fetch(table="trips", settled_days=0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    read = nights.puts(monkeypatch)
    assert len(rows(nights.fetch(table="trips", settled_days=0))) == 144
    assert [name[-10:] for name in read] == ["2016-01-07", "2016-01-08"]
    assert not list(nights.folder.glob("partial/*"))


def test_no_record_and_no_log_has_the_password(nights, trips, postgresql, caplog):
    caplog.set_level(0)
    download = nights.fetch(table="trips", changed_at="changed")
    kept = [path.read_bytes().decode(errors="replace") for path in nights.folder.rglob("*") if path.is_file()]
    for text in [download.model_dump_json(), caplog.text, repr(postgresql), *kept]:
        assert postgresql.password.get_secret_value() not in text
