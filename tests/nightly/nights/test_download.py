"""The download step: download.json, what it reuses, which bodies stay, and where no password is."""

import datetime as dt
import json
import logging
import os
from pathlib import Path

import pytest

from nightly.io import secrets
from nightly.nights import download, snapshot
from nightly.nights.report import note, report
from nightly.nights.verdict import decide
from nightly.records.base import ContractError
from nightly.records.night import Download
from nightly.records.source_config import PythonSource
from nightly.snapshots.errors import UnreadableBodyError
from nightly.sources import MODULES, part_store
from nightly.sources.part_store import in_use
from tests.support.nights import a_night, utc

DAYS = [f"2016-02-{day:02}" for day in range(1, 11)]


@pytest.fixture
def night(paths, tmp_path, monkeypatch):
    """Run the step of a night of ten days; every day of its source has the rows and the fingerprint `version`."""
    monkeypatch.setitem(MODULES, "python", "tests.support.parts")
    load = download.config_of
    monkeypatch.setattr(
        download, "config_of", lambda night: load(night).model_copy(update={"source": PythonSource(connection="rows")})
    )
    address = tmp_path / "source.json"

    def night(run_id, days=DAYS, version="v1", verdict=True, **changes):
        given = a_night(run_id=run_id, source_address=str(address), **changes)
        rows = {day: f"{day},{version}\n" for day in days}
        address.write_text(json.dumps({"rows": rows, "fingerprints": dict.fromkeys(days, version)}))
        folder = given.folder(paths)
        given.save(folder / "request.json")
        result = download.run(folder, paths)
        if verdict:
            (folder / "verdict.json").write_text("{}")
        return result

    return night


def bodies(paths):
    return len(list((paths.downloads / "taxi/bodies").iterdir()))


def test_the_step_says_what_it_fetched_what_it_reused_and_what_was_revised(night, paths, caplog):
    caplog.set_level(logging.INFO)
    night("first")
    assert "there is no connection 'rows' (AIRFLOW_CONN_ROWS): using the address of the model's config" in caplog.text
    again = {"files": 11, "parts": 11, "reused": 10, "revised": 0}
    result = night("second", [*DAYS, "2016-02-11"])
    assert result.items() >= again.items() and 0 < result["fetched_bytes"] < result["bytes"] / 10
    assert "10 of 11 parts were fetched by earlier nights; " in caplog.text

    night("third", DAYS, version="v2")
    record = Download.load(paths.nights / "taxi/third/download.json")
    since = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H}"
    assert record.revised == DAYS
    assert record.revision.startswith(f"10 of 10 parts have changed at the source since {since}:")
    assert record.revision.endswith("UTC: 2016-02-01, 2016-02-02, 2016-02-03 and 7 more")
    states = {"plan": "success", "download": "success", "snapshot": "failed"}
    verdict = decide("taxi", "third", paths.nights / "taxi/third", states)
    assert record.revision in " ".join(report(verdict).split()) and "10 of 10 parts have changed" in note(verdict)


def test_the_step_says_which_files_are_gone(paths, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("day,fare\n2016-02-01,1\n")
    for run_id in ("first", "second"):
        given = a_night(run_id=run_id, source_address=str(tmp_path / "*.csv"))
        given.save(given.folder(paths) / "request.json")
        result = download.run(given.folder(paths), paths)
        (tmp_path / "b.csv").unlink(missing_ok=True)
    assert (result["files"], result["removed"]) == (1, 1)
    assert f"is gone: {tmp_path}/b.csv" in caplog.text
    verdict = decide("taxi", "second", given.folder(paths), {"download": "success", "snapshot": "failed"})
    assert "1 file is gone from the source since" in report(verdict) and "1 file is gone" in note(verdict)


def test_a_fresh_night_fetches_everything(night):
    night("first")
    assert night("second", fresh=True)["reused"] == 0
    assert night("third")["reused"] == 10


def test_bodies_of_the_last_nights_of_the_latest_windows_and_of_unfinished_nights_stay(night, paths):
    night("newest", as_of=utc(2016, 3, 1))
    night("unfinished", ["2015-01-01"], as_of=utc(2015, 1, 2), verdict=False)
    for day in range(1, 7):  # a backfill, beside which the next night still has its window
        night(f"backfill-{day}", [f"2014-01-0{day}"], as_of=utc(2014, 1, day + 1))
    assert bodies(paths) == 10 + 1 + 3
    assert night("next", as_of=utc(2016, 3, 2))["reused"] == 10


def test_a_damage_that_only_the_snapshot_step_notices_is_fetched_again(night, paths, monkeypatch):
    monkeypatch.setattr(part_store, "stamp", lambda path: str(path.stat().st_mtime_ns))  # as after a fault of the disk
    night("first")
    body = Path(Download.load(paths.nights / "taxi/first/download.json").files[0].path)
    before = body.stat()
    body.write_text(body.read_text().replace("v1", "v7"))
    os.utime(body, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert night("second")["reused"] == 10
    with pytest.raises(UnreadableBodyError, match="has changed since it was downloaded; run the download again"):
        snapshot.run(paths.nights / "taxi/second", paths)
    assert night("third")["reused"] == 9 and "v7" not in body.read_text()


def test_nothing_is_removed_while_another_run_downloads(night, paths, caplog):
    caplog.set_level(logging.INFO)
    for day in range(1, 6):
        with in_use(paths.downloads / "taxi"):
            night(f"night-{day}", [f"2014-01-0{day}"], as_of=utc(2014, 1, day + 1))
    assert bodies(paths) == 5 and "no body is removed while another run of taxi downloads" in caplog.text


def test_an_unreadable_request_stops_the_removal_only_while_its_night_may_need_its_bodies(night, paths, caplog):
    for day in range(1, 6):
        night(f"night-{day}", [f"2014-01-0{day}"], as_of=utc(2014, 1, day + 1))
    assert bodies(paths) == 3
    request = paths.nights / "taxi/night-5/request.json"
    request.write_text("{")
    os.utime(request, (1, 1))  # older than its verdict
    night("night-6", ["2014-01-06"], as_of=utc(2014, 1, 7))
    assert bodies(paths) == 3 and "no body is removed" not in caplog.text, "night-5 has its verdict"
    (paths.nights / "taxi/night-5/verdict.json").unlink()
    night("night-7", ["2014-01-07"], as_of=utc(2014, 1, 8))
    assert bodies(paths) == 4
    assert "no body is removed, because it is not known" in caplog.text


def test_a_night_that_is_started_again_after_its_verdict_is_unfinished(night, paths):
    night("again", ["2013-01-01"], as_of=utc(2013, 1, 2))
    verdict = paths.nights / "taxi/again/verdict.json"
    os.utime(verdict, (1, 1))
    for day in range(1, 7):
        night(f"night-{day}", [f"2014-01-0{day}"], as_of=utc(2014, 1, day + 1))
    assert bodies(paths) == 1 + 3


def test_the_connection_leaves_the_environment_and_its_password_is_hidden(night, monkeypatch):
    monkeypatch.setattr(secrets, "_hidden", set())
    value = {"conn_type": "postgres", "password": "pass/word 1", "extra": {"api_key": "key-123", "region": "eu-west-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_ROWS", json.dumps(value))
    night("first")
    assert "AIRFLOW_CONN_ROWS" not in os.environ
    assert secrets.masked("pass/word 1, pass%2Fword+1, key-123 of eu-west-1") == "***, ***, *** of eu-west-1"


def test_a_connection_that_is_not_one_is_one_sentence_without_its_value(night, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ROWS", "{'password': 'open sesame'}")
    with pytest.raises(ContractError, match=r"^AIRFLOW_CONN_ROWS is neither a URI such as postgres:") as error:
        night("first")
    assert "sesame" not in str(error.value) and error.value.__suppress_context__
