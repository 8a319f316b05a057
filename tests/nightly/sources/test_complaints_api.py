"""The complaints API's windows and slices, on the bureau's own rows where they are present."""

import csv
import datetime as dt
import time
from pathlib import Path

import pytest

from nightly.models import load_config
from nightly.records.connection import Connection
from nightly.records.source_config import FilesSource
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from nightly.sources.errors import HttpStatusError
from tests.support.faulty_server import FaultyServer
from tests.support.nights import a_night, utc

SOURCE = load_config("complaints").source.model_copy(update={"retries": 3, "timeout_seconds": 5})


@pytest.fixture
def server(complaints):
    with FaultyServer(complaints) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def ask(server, start, end, folder, source=SOURCE, **connection):
    connection = Connection(host=server.address, **connection)
    return fetch(source, connection=connection, window_start=start, window_end=end, folder=folder)


def rows_of(download):
    rows = []
    for file in download.files:
        with Path(file.path).open(newline="") as body:
            rows += list(csv.reader(body))[1:]
    return rows


def windows(server):
    return [(r["query"]["date_received_min"], r["query"]["date_received_max"]) for r in server.requests]


def rows_in(server, first, last):
    return len(server.body(dt.date.fromisoformat(first), dt.date.fromisoformat(last)).splitlines()) - 1


def test_a_window_is_asked_for_by_whole_inclusive_days(server, tmp_path):
    download = ask(server, utc(2016, 1, 20), utc(2016, 1, 23), tmp_path)
    assert windows(server) == [("2016-01-02", "2016-01-22")]  # from the beginning of the slice, whose name stays so
    assert server.requests[0]["query"] | {"format": "csv", "no_aggs": "true"} == server.requests[0]["query"]
    assert len(rows_of(download)) == rows_in(server, "2016-01-02", "2016-01-22")
    assert (download.kind, download.window_end) == ("http", utc(2016, 1, 23))
    assert download.files[0].origin == (
        f"{server.address}?format=csv&no_aggs=true&field=all&date_received_min=2016-01-02&date_received_max=2016-01-22"
    )


def test_a_window_that_ends_within_a_day_asks_for_that_day(server, tmp_path):
    ask(server, utc(2016, 1, 20, 3), utc(2016, 1, 22, 3), tmp_path)
    assert windows(server) == [("2016-01-02", "2016-01-22")]


def test_the_days_are_those_of_utc(server, tmp_path):
    zone, source = dt.timezone(dt.timedelta(hours=-6)), SOURCE.model_copy(update={"slice_days": 1})
    start, end = dt.datetime(2016, 1, 20, 19, tzinfo=zone), dt.datetime(2016, 1, 21, 18, tzinfo=zone)
    ask(server, start, end, tmp_path, source)
    assert windows(server) == [("2016-01-21", "2016-01-21")]


def test_a_long_window_is_several_requests_that_overlap_nowhere(server, tmp_path):
    download = ask(server, utc(2015, 12, 10), utc(2016, 3, 1), tmp_path)
    assert windows(server) == [
        ("2015-12-02", "2016-01-01"),
        ("2016-01-02", "2016-02-01"),
        ("2016-02-02", "2016-02-29"),
    ]
    assert len(rows_of(download)) == 2783
    assert len(download.files) == 2  # the first has a header and no rows: no file


def test_the_next_night_asks_for_what_is_new_and_learns_that_the_rest_is_unchanged(server, tmp_path):
    first = ask(server, utc(2015, 12, 20), utc(2016, 2, 29), tmp_path)
    server.requests.clear()
    second = ask(server, utc(2015, 12, 21), utc(2016, 3, 1), tmp_path)
    assert [request["status"] for request in server.requests] == [304, 304, 200]
    assert second.files[0] == first.files[0] and second.files[1] != first.files[1]


def test_no_rows_is_no_file_and_no_error(server, tmp_path):
    assert ask(server, utc(2011, 1, 1), utc(2011, 1, 8), tmp_path).files == []
    assert list((tmp_path / "bodies").glob("*")) == []


def test_a_slice_that_the_service_finds_too_big_is_halved(server, tmp_path):
    server.max_rows = 400
    download = ask(server, utc(2016, 1, 2), utc(2016, 2, 2), tmp_path)
    server.max_rows = 100_000
    expected = server.body(dt.date(2016, 1, 2), dt.date(2016, 2, 1)).decode().splitlines()
    assert sorted(rows_of(download)) == sorted(list(csv.reader(expected))[1:])
    assert len(server.requests) < 20


def test_a_day_that_is_too_big_is_an_error(server, tmp_path):
    server.max_rows = 10
    with pytest.raises(HttpStatusError, match="too many complaints"):
        ask(server, utc(2016, 1, 20), utc(2016, 1, 23), tmp_path)


def test_the_services_own_424_is_tried_again(server, tmp_path):
    server.faults.extend([{"fault": "status", "status": 424}] * 2)
    assert rows_of(ask(server, utc(2016, 1, 20), utc(2016, 1, 21), tmp_path))


def test_a_broken_slice_is_resumed(server, tmp_path):
    server.faults.append({"fault": "drop", "after": 5000})
    assert rows_of(ask(server, utc(2016, 1, 20), utc(2016, 1, 21), tmp_path))
    assert server.requests[1]["headers"]["Range"] == "bytes=5000-"


def test_the_connection_is_sent(server, tmp_path):
    ask(server, utc(2016, 1, 20), utc(2016, 1, 21), tmp_path, password="x")
    assert server.requests[0]["headers"]["Authorization"] == "Bearer x"
    assert server.requests[0]["headers"]["Accept"] == "text/csv"


def test_an_empty_window_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match="the window is empty"):
        ask(server, utc(2016, 1, 20), utc(2016, 1, 20), tmp_path)


def test_the_api_s_rows_are_the_same_snapshot_as_the_export_s(server, tmp_path, complaints):
    config, night = load_config("complaints"), a_night(model="complaints", as_of=utc(2016, 3, 1))
    export = fetch(
        FilesSource(path=str(complaints)), window_start=night.window_start, window_end=night.as_of, folder=tmp_path
    )
    server.max_rows = 500
    store = SnapshotStore(tmp_path / "snapshots", "complaints")
    downloads = [export, ask(server, night.window_start, night.as_of, tmp_path)]
    first, second = (ingest(config, night, download, store, folder=tmp_path / "night") for download in downloads)
    assert first.rows > 2000
    assert first.snapshot_id == second.snapshot_id and not second.created
