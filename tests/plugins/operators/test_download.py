"""The download runs in a process of its own, which gets the source's connection, and leaves its password nowhere."""

import contextlib
import datetime as dt
import json
import logging
import os
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException

from nightly.io import secrets
from nightly.io.polling import poll
from nightly.records.base import ContractError
from nightly.records.connection import Connection as Given
from nightly.records.night import Download, StepError
from nightly_airflow.operators.download import DownloadOperator
from tests.support.nights import a_night

VARIABLE, PASSWORD, KEY = "AIRFLOW_CONN_TAXI_FILES", "Tr0ub4dor&3/+", "k3y-0f-the-st0re"
LEAKING = {
    "conn_type": "postgres",
    "host": "db.example.org",
    "login": "mary",
    "password": PASSWORD,
    "extra": {
        "secret_key": KEY,
        "headers": {"X-Api-Key": "h3ader", "X-Other": "another-h3ader"},
        "params": {"appid": "p4rameter"},
    },
}
NOBODY = 65534


@pytest.fixture
def operator(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setattr(secrets, "_hidden", set())

    def operator(**arguments):
        operator = DownloadOperator(task_id="download", model="taxi", run_id="tonight", **arguments)
        operator.allow_nested_operators = True
        a_night(as_of=dt.datetime(2016, 1, 2, tzinfo=dt.UTC)).save(operator.folder / "request.json")
        return operator

    return operator


@pytest.mark.parametrize(
    "uri",
    [
        "postgres://mary:p%40ss%2Fword@db.example.org:5433/rows?sslmode=require&connect_timeout=5",
        "postgresql://mary@localhost/rows",
        "http://https%3A%2F%2Fapi.example.org%2Fv1/",
        "http://https://api.example.org:8443/",
        "aws://key:secret@/?region_name=eu-west-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A9000",
        "google-cloud-platform://?__extra__=%7B%22keyfile_dict%22%3A+%7B%22a%22%3A+1%7D%7D",
        "sqlite:////tmp/rows.db",
        "postgres://mary@[::1]:5432/rows",
    ],
)
def test_a_uri_and_json_are_read_as_airflow_reads_them(uri):
    """`bin/night` reads them itself; a night of Airflow gets Airflow's JSON."""
    assert Given.read("rows", uri) == Given.read("rows", Connection.from_uri(uri, "rows").as_json())
    text = Given.read("rows", uri).dump()
    assert Given.read("rows", text) == Given.read("rows", Connection.from_json(text, "rows").as_json())


@pytest.mark.integration
def test_a_file_named_by_the_connection_is_what_the_night_uses(operator, tmp_path, monkeypatch, caplog):
    trips = tmp_path / "trips.csv"
    trips.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}))
    task = operator()
    assert task.perform({})["files"] == 1
    [file] = Download.load(task.folder / "download.json").files
    assert file.path == str(trips)


def test_without_a_connection_the_process_gets_none(operator, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", "postgres://mary:secret@db/rows")
    assert operator().environment() == {}
    monkeypatch.setenv(VARIABLE, "{'password': 'open sesame'}")
    with pytest.raises(ContractError, match="AIRFLOW_CONN_TAXI_FILES is neither a URI") as error:
        operator().environment()
    assert "sesame" not in str(error.value)


def refused_to_others(path):
    """Whether another user than root and the process's own is refused, and nobody else may read it."""
    if os.geteuid():
        return path.stat().st_mode & 0o077 == 0
    return subprocess.run(["cat", path], user=NOBODY, group=NOBODY, capture_output=True).returncode != 0


def search_processes():
    """Return the processes that have the password in their command line or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            assert PASSWORD.encode() not in (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
            if PASSWORD.encode() in environment or KEY.encode() in environment:
                found.append(folder)
    return found


@pytest.mark.integration
@pytest.mark.parametrize("refused", [False, True])
def test_the_password_is_nowhere_but_in_the_environment_of_its_process(
    operator, tmp_path, monkeypatch, caplog, capfd, refused
):
    """A source logs, prints and raises it; this looks at what it leaves, and at all processes meanwhile."""
    caplog.set_level(logging.DEBUG)
    extra = {**LEAKING["extra"], **({"refused": "yes"} if refused else {})}
    monkeypatch.setenv(VARIABLE, json.dumps({**LEAKING, "extra": extra}))
    task = operator(step="tests.support.leaking:download")
    context = {"ti": SimpleNamespace(try_number=1, xcom_push=None)}
    processes = []

    def look():
        poll((task.folder / "started").exists, every=0.1, seconds=60)
        processes.extend(search_processes())
        assert all(refused_to_others(folder / "environ") for folder in processes)
        (task.folder / "go").touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    if refused:
        with pytest.raises(AirflowFailException) as failed:  # another try would be refused again
            task.execute(context)
        text = StepError.load(task.folder / "download.error.json").message
        assert text == str(failed.value)
        assert text == "RefusedError: password authentication failed for postgresql://***@db.example.org/rows (key ***)"
        result = text
    else:
        result = task.execute(context)
        assert not {name for name in result.pop("modules") if name.startswith("tensorflow")}
        assert result["parts"] == 1 and Download.load(task.folder / "download.json").files
    watcher.join()
    assert len(processes) == 1, "the download's own"

    log = caplog.text + "".join(capfd.readouterr())
    assert "connecting to postgresql://***@db.example.org/rows with ***" in log
    assert "NOTICE: password=***" in log and "*** is the key" in log and ("Traceback" in log) is refused
    files = [path.read_text(errors="replace") for path in (tmp_path / "var").rglob("*") if path.is_file()]
    assert len(files) >= 3
    for text in (log, json.dumps(result), *files):
        assert PASSWORD not in text and KEY not in text
        assert "h3ader" not in text and "p4rameter" not in text
    assert "GET /rows?appid=*** with {'X-Api-Key': '***', 'X-Other': '***'}" in log
