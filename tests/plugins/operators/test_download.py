"""The download finds its source through the connection, where there is one, and keeps only the last bodies."""

import datetime as dt
import json

import pytest
from airflow.sdk import Connection

from nightly.records.night import Download
from nightly_airflow.operators.download import DownloadOperator, headers_of, url_of
from tests.support.nights import a_night

DEFAULT = "https://example.org/search/api/v1/"


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({}, None),
        ({"host": "mirror.example.org"}, "https://mirror.example.org/search/api/v1/"),
        ({"host": "localhost", "port": 8081, "schema": "http"}, "http://localhost:8081/search/api/v1/"),
        ({"host": "localhost", "extra": '{"path": "/other/"}'}, "https://localhost/other/"),
        ({"host": "http://localhost:8081/all/of/it"}, "http://localhost:8081/all/of/it"),
    ],
)
def test_the_connection_replaces_the_url(connection, url):
    assert url_of(Connection(conn_id="source", conn_type="http", **connection), DEFAULT) == url


@pytest.mark.parametrize(
    ("connection", "headers"),
    [
        ({}, None),
        ({"password": "a token"}, {"Authorization": "Bearer a token"}),
        ({"login": "mary", "password": "secret"}, {"Authorization": "Basic bWFyeTpzZWNyZXQ="}),
    ],
)
def test_the_password_is_a_token_and_with_a_login_basic_authorization(connection, headers):
    assert headers_of(Connection(conn_id="source", conn_type="http", **connection)) == headers


@pytest.fixture
def operator(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    trips = tmp_path / "trips.csv"
    trips.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}))
    operator = DownloadOperator(task_id="download", model="taxi", run_id="tonight")
    a_night(as_of=dt.datetime(2016, 1, 2, tzinfo=dt.UTC)).save(operator.folder / "request.json")
    return operator


def test_a_file_named_by_the_connection_is_what_the_night_uses(operator, tmp_path):
    assert operator.perform({})["files"] == 1
    [file] = Download.load(operator.folder / "download.json").files
    assert file.path == str(tmp_path / "trips.csv")


def test_bodies_of_old_finished_nights_go_and_those_of_unfinished_ones_stay(operator):
    nights, downloads = operator.paths.nights / "taxi", operator.paths.downloads / "taxi"
    for name in ("unfinished", "first", "second", "third", "fourth"):
        (downloads / name).mkdir(parents=True)
        (nights / name).mkdir(parents=True)
        (nights / name / "download.json").write_text("{}")
        if name != "unfinished":
            (nights / name / "verdict.json").write_text("{}")

    operator.perform({})
    assert {path.name for path in downloads.iterdir()} >= {"unfinished", "second", "third", "fourth"}
    assert not (downloads / "first").exists()
