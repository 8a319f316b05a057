"""The complaints API's windows and slices, on the bureau's own rows where they are present."""

import csv
import datetime as dt
from pathlib import Path

import pytest

from nightly.records.source_config import ComplaintsApiSource
from nightly.sources import complaints_api, fetch, http
from nightly.sources.errors import HttpStatusError
from tests.support.faulty_server import FaultyServer
from tests.support.nights import utc

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def server(complaints):
    with FaultyServer(complaints) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)


def ask(server, start, end, folder):
    source = ComplaintsApiSource(url="http://nowhere.invalid/", retries=3, timeout_seconds=5)
    return fetch(source, address=server.address, headers=None, window_start=start, window_end=end, folder=folder)


def rows_of(download):
    rows = []
    for file in download.files:
        with Path(file.path).open(newline="") as body:
            rows += list(csv.reader(body))[1:]
    return rows


def whole_month(server):
    return server.body(dt.date(2016, 1, 1), dt.date(2016, 1, 31)).decode().splitlines()


def windows(server):
    return [(r["query"]["date_received_min"], r["query"]["date_received_max"]) for r in server.requests]


def test_a_window_is_asked_for_by_whole_inclusive_days(server, tmp_path):
    download = ask(server, utc(2016, 1, 20), utc(2016, 1, 23), tmp_path)
    assert windows(server) == [("2016-01-20", "2016-01-22")]
    assert server.requests[0]["query"] | {"format": "csv", "no_aggs": "true"} == server.requests[0]["query"]
    assert len(rows_of(download)) == 100 + 157 + 103
    assert (download.kind, download.window_end) == ("complaints_api", utc(2016, 1, 23))


def test_a_window_that_ends_within_a_day_asks_for_that_day(server, tmp_path):
    ask(server, utc(2016, 1, 20, 3), utc(2016, 1, 22, 3), tmp_path)
    assert windows(server) == [("2016-01-20", "2016-01-22")]


def test_the_days_are_those_of_utc(server, tmp_path):
    zone = dt.timezone(dt.timedelta(hours=-6))
    ask(server, dt.datetime(2016, 1, 20, 19, tzinfo=zone), dt.datetime(2016, 1, 21, 18, tzinfo=zone), tmp_path)
    assert windows(server) == [("2016-01-21", "2016-01-21")]


def test_a_long_window_is_several_requests_that_overlap_nowhere(server, tmp_path):
    download = ask(server, utc(2015, 12, 1), utc(2016, 3, 1), tmp_path)
    assert windows(server) == [
        ("2015-12-01", "2015-12-31"),
        ("2016-01-01", "2016-01-31"),
        ("2016-02-01", "2016-02-29"),
    ]
    assert len(rows_of(download)) == 2783
    assert [Path(file.path).name for file in download.files] == [
        "complaints-2016-01-01-to-2016-01-31.csv",  # December has a header and no rows: no file
        "complaints-2016-02-01-to-2016-02-29.csv",
    ]


def test_no_rows_is_no_file_and_no_error(server, tmp_path):
    assert ask(server, utc(2011, 1, 1), utc(2011, 1, 8), tmp_path).files == []
    assert list(tmp_path.iterdir()) == []


def test_a_slice_that_the_service_finds_too_big_is_halved(server, tmp_path):
    server.max_rows = 400
    download = ask(server, utc(2016, 1, 1), utc(2016, 2, 1), tmp_path)
    server.max_rows = 100_000
    assert sorted(rows_of(download)) == sorted(csv.reader(whole_month(server)))[:-1]
    assert len(server.requests) < 20


def test_a_day_that_is_too_big_is_an_error(server, tmp_path):
    server.max_rows = 10
    with pytest.raises(HttpStatusError, match="too many complaints"):
        ask(server, utc(2016, 1, 20), utc(2016, 1, 23), tmp_path)


def test_the_services_own_424_is_tried_again(server, tmp_path):
    server.faults.extend([{"fault": "status", "status": 424}] * 2)
    assert len(rows_of(ask(server, utc(2016, 1, 20), utc(2016, 1, 21), tmp_path))) == 100


def test_a_broken_slice_is_resumed(server, tmp_path):
    server.faults.append({"fault": "drop", "after": 5000})
    assert len(rows_of(ask(server, utc(2016, 1, 20), utc(2016, 1, 21), tmp_path))) == 100
    assert server.requests[1]["headers"]["Range"] == "bytes=5000-"


def test_headers_are_sent(server, tmp_path):
    complaints_api.fetch(
        server.address,
        headers={"Authorization": "Bearer x"},
        window_start=utc(2016, 1, 20),
        window_end=utc(2016, 1, 21),
        folder=tmp_path,
        timeout=5,
        retries=0,
    )
    assert server.requests[0]["headers"]["Authorization"] == "Bearer x"
    assert server.requests[0]["headers"]["Accept"] == "text/csv"


def test_an_empty_window_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match="the window is empty"):
        ask(server, utc(2016, 1, 20), utc(2016, 1, 20), tmp_path)
