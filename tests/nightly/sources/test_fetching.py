"""A night fetches what earlier nights have not. It reuses what is unchanged or settled, and says what was revised."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from nightly.io.paths import ROOT
from nightly.io.polling import poll
from nightly.io.space import SpaceError, size_of
from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.source_config import FilesSource, PythonSource, SourceConfig
from nightly.sources import MODULES, fetch, in_place
from nightly.sources.errors import SourceError
from nightly.sources.part_store import PARTIAL, alone, retain
from tests.support.fetched import download, snapshot
from tests.support.nights import utc
from tests.support.parts import Days, contents

FIRST, SECOND, THIRD = "2016-01-01", "2016-01-02", "2016-01-03"
JANUARY = (utc(2016, 1, 1), utc(2016, 2, 1))


@pytest.fixture
def source():
    return Days({FIRST: "1,10\n", SECOND: "", THIRD: "3,30\n"})


@pytest.fixture
def marked(source):
    """The source, which tells by fingerprints what has changed."""
    source.fingerprints = dict.fromkeys(source.rows, "v1")
    return source


def test_the_next_night_fetches_only_what_is_new(marked, tmp_path):
    first = marked.night(tmp_path, "first")
    assert (contents(first), marked.fetched) == (["1,10\n", "3,30\n"], [FIRST, SECOND, THIRD])
    assert [file.run_id for file in first.files] == ["first", "first"] and not list((tmp_path / PARTIAL).iterdir())

    marked.rows["2016-01-04"], marked.fingerprints["2016-01-04"] = "4,40\n", "v1"
    second = marked.night(tmp_path, "second")
    assert (contents(second), marked.fetched) == (["1,10\n", "3,30\n", "4,40\n"], ["2016-01-04"])
    assert [file.run_id for file in second.files] == ["first", "first", "second"]
    assert (len(second.records), len(second.fetched), second.revised) == (4, 1, [])


def test_a_source_without_fingerprints_is_asked_again_until_its_rows_are_settled(source, tmp_path):
    source.night(tmp_path, "first")
    source.night(tmp_path, "second")
    assert source.fetched == [FIRST, SECOND, THIRD]
    source.night(tmp_path, "third", settled_days=30)
    assert source.fetched == [], "each was fetched more than 30 days after its end"
    source.night(tmp_path, "fourth", settled_days=30_000)
    assert source.fetched == [FIRST, SECOND, THIRD]


def test_a_source_that_tells_with_its_answer_that_nothing_changed_is_believed(source, tmp_path):
    source.etags = dict.fromkeys(source.rows, "e1")
    source.night(tmp_path, "first")
    source.etags[THIRD] = "e2"
    source.rows[FIRST], source.rows[THIRD] = "not asked for", "3,31\n"
    second = source.night(tmp_path, "second")
    assert contents(second) == ["1,10\n", "3,31\n"] and [record.name for record in second.fetched] == [THIRD]


def test_what_was_revised_at_the_source_is_fetched_and_said(marked, tmp_path):
    first = marked.night(tmp_path, "first")
    marked.rows |= {FIRST: "1,11\n", SECOND: "2,20\n", THIRD: "3,30\n"}
    marked.fingerprints = {FIRST: "v2", SECOND: "v2", THIRD: "v2"}
    second = marked.night(tmp_path, "second")
    assert contents(second) == ["1,11\n", "2,20\n", "3,30\n"]
    assert [record.name for record in second.revised] == [FIRST, SECOND], "the third was written again, with its rows"
    assert contents(first) == ["1,10\n", "3,30\n"], "the first night still has its own bodies"


def test_a_day_that_was_not_over_when_it_was_fetched_is_not_revised(tmp_path):
    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    source = Days({FIRST: "1,10\n", today: "8,80\n"})
    source.night(tmp_path, "first")
    source.rows[today] += "9,90\n"
    second = source.night(tmp_path, "second")
    assert contents(second)[-1] == "8,80\n9,90\n" and second.revised == []


def test_fresh_fetches_everything_and_still_says_what_was_revised(marked, tmp_path):
    marked.etags = dict.fromkeys(marked.rows, "v1")
    marked.night(tmp_path, "first")
    marked.rows[FIRST] = "1,11\n"  # the source's fingerprint is wrong
    second = marked.night(tmp_path, "second", fresh=True)
    assert (contents(second), len(second.fetched)) == (["1,11\n", "3,30\n"], 3)
    assert [record.name for record in second.revised] == [FIRST]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_retry_goes_on_where_the_try_before_broke(source, tmp_path, fresh):
    source.night(tmp_path, "first")
    source.rows[FIRST], source.broken = "1,11\n", {THIRD}
    with pytest.raises(SourceError, match="the connection broke"):
        source.night(tmp_path, "second", fresh=fresh)
    source.broken.clear()
    second = source.night(tmp_path, "second", fresh=fresh)
    assert (source.fetched, contents(second)) == ([THIRD], ["1,11\n", "3,30\n"])
    assert [record.name for record in second.revised] == [FIRST], "the first try noticed it"

    source.night(tmp_path, "second", fresh=fresh)
    assert source.fetched == [FIRST, SECOND, THIRD], "a night that a person starts again asks again"


def test_a_body_that_was_damaged_or_removed_is_fetched_again(marked, tmp_path):
    one, three = (Path(file.path) for file in marked.night(tmp_path, "first").files)
    one.write_text(one.read_text().replace("10", "66"))
    three.unlink()
    assert contents(marked.night(tmp_path, "second")) == ["1,10\n", "3,30\n"] and marked.fetched == [FIRST, THIRD]
    record = next((tmp_path / "parts").glob("*.json"))
    record.write_text("half a record")
    marked.night(tmp_path, "third")
    assert len(marked.fetched) == 1


def test_two_parts_of_the_same_content_share_a_body(tmp_path):
    source = Days({FIRST: "5,50\n", SECOND: "5,50\n"}, fingerprints={FIRST: "v1", SECOND: "v1"})
    source.night(tmp_path, "first")
    for run_id in ("second", "third"):
        assert contents(source.night(tmp_path, run_id)) == ["5,50\n", "5,50\n"] and source.fetched == []


def test_bodies_of_a_night_that_downloads_are_not_removed_by_another(marked, tmp_path):
    kept = marked.night(tmp_path, "first").files
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "include"}
    )
    with held:
        assert held.stdout.readline() == b"in use\n"
        with pytest.raises(BlockingIOError), alone(tmp_path):
            pass
        held.kill()
    assert all(Path(file.path).exists() for file in kept)
    assert len(retain(tmp_path, [kept[0].path], [])) == 1
    assert contents(marked.night(tmp_path, "second")) == ["1,10\n", "3,30\n"] and marked.fetched == [THIRD]


HOLD = """
import sys, time
from pathlib import Path
from nightly.sources.part_store import in_use
with in_use(Path(sys.argv[1])):
    print("in use", flush=True)
    time.sleep(60)
"""


def test_partial_bodies_of_dead_runs_and_the_folders_of_earlier_versions_go(marked, tmp_path):
    marked.broken = {THIRD}
    for run_id in ("dead", "tonight"):
        with pytest.raises(SourceError):
            marked.night(tmp_path, run_id)
    for name in ("kept-run", "old-run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "body.csv").touch()
    body = next((tmp_path / "bodies").iterdir())
    retain(tmp_path, [str(body), str(tmp_path / "kept-run/body.csv")], ["tonight"])
    assert len(list((tmp_path / PARTIAL).iterdir())) == 1
    assert {path.name for path in tmp_path.glob("*/")} == {"bodies", "parts", "partial", "kept-run"}


KILLED = """
import os, sys, time
from pathlib import Path
from nightly.sources import part_store
from tests.support.parts import Days

days = {f"2016-01-{day:02}": f"{day},1\\n" * 20_000 for day in range(1, 29)}
Days(days, fingerprints=dict.fromkeys(days, "v1")).night(Path(sys.argv[1]), "tonight")
"""


def test_a_run_that_is_killed_anywhere_leaves_nothing_half_made_and_the_next_goes_on(tmp_path):
    """Killed later and later, until it has fetched everything."""
    days = {f"2016-01-{day:02}": f"{day},1\n" * 20_000 for day in range(1, 29)}
    source = Days(days, fingerprints=dict.fromkeys(days, "v1"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(ROOT), str(ROOT / "server")])}
    pauses, seen = iter([0.005, 0.02, 0.05, 0.1]), []
    for pause in pauses:
        run = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], env=environment)
        poll(lambda run=run: (tmp_path / PARTIAL).exists() or run.poll() is not None, every=0)
        assert (tmp_path / PARTIAL).exists(), "the run ended before it fetched"
        try:
            run.wait(pause)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
        bodies = list((tmp_path / "bodies").glob("*"))
        assert all(path.read_text() in {"day,fare\n" + rows for rows in days.values()} for path in bodies)
        seen.append(len(list((tmp_path / "parts").glob("[!.]*.json"))))
    result = source.night(tmp_path, "tonight")
    assert contents(result) == list(days.values()) and len(source.fetched) == 28 - seen[-1]
    assert not list((tmp_path / PARTIAL).iterdir())


def test_a_download_that_has_no_room_is_refused_before_its_first_byte(marked, tmp_path):
    marked.size = 10**18
    with pytest.raises(SpaceError, match="free, and the download of 3 parts needs"):
        marked.night(tmp_path, "first")
    assert marked.fetched == []


def test_a_disk_that_becomes_full_is_one_sentence_and_gives_its_room_back(marked, small_disk):
    marked.rows[THIRD] = "3,30\n" * (90 * 2**20 // 5)
    with pytest.raises(SpaceError, match=f"became full while {THIRD} was written: 0 MB are free now"):
        marked.night(small_disk, "first")
    assert size_of(small_disk) < 10_000
    marked.rows[THIRD] = "3,30\n"
    assert contents(marked.night(small_disk, "first")) == ["1,10\n", "3,30\n"] and marked.fetched == [THIRD]


def test_local_files_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    hashed, described = [], in_place.described
    monkeypatch.setattr(in_place, "described", lambda path: hashed.append(path.name) or described(path))
    files = tmp_path / "files"
    files.mkdir()
    for name in ("a.csv", "b.csv"):
        (files / name).write_text("day,fare\n2016-01-01,1\n")
    window = {"window_start": utc(2016, 1, 1), "window_end": utc(2016, 1, 2), "folder": tmp_path / "downloads"}

    def night(**changes):
        hashed.clear()
        return fetch(FilesSource(path=str(files)), **window, **changes)

    first = night()
    assert hashed == ["a.csv", "b.csv"]
    night()
    assert hashed == ["a.csv", "b.csv"], "written just now: another write could go unnoticed"
    monkeypatch.setattr("nightly.io.files.CLOCK_NS", 0)
    night()
    assert night().files == first.files and hashed == []
    (files / "a.csv").write_text("day,fare\n2016-01-01,2\n")  # of the same size
    second = night()
    assert hashed == ["a.csv"] and second.files[0].sha256 != first.files[0].sha256
    night(fresh=True)
    assert hashed == ["a.csv", "b.csv"]


def test_a_night_of_another_window_leaves_what_is_known_of_other_files(tmp_path, monkeypatch):
    days = ["2016-01-01", "2016-01-02"]
    for day in days:
        (tmp_path / f"{day}.csv").write_text("day,fare\n2016-01-01,1\n")

    def night(day):
        start = dt.datetime.fromisoformat(days[day]).replace(tzinfo=dt.UTC)
        source = FilesSource(path=str(tmp_path / "{date:%Y-%m-%d}.csv"))
        return fetch(source, window_start=start, window_end=start + dt.timedelta(days=1), folder=tmp_path / "downloads")

    night(1)
    night(0)
    (tmp_path / f"{days[1]}.csv").write_text("day,fare\n2016-01-01,2\n")
    assert len(night(1).revised) == 1
    (tmp_path / f"{days[0]}.csv").unlink()
    assert night(1).removed == []
    (known,) = (tmp_path / "downloads").rglob(in_place.NAME)
    assert days[0] in known.read_text(), "a night of its window says that it is gone"
    monkeypatch.setattr(in_place, "EMPTY_KEPT", dt.timedelta(0))
    night(1)
    assert days[0] not in known.read_text() and days[1] in known.read_text()


def test_a_local_file_with_other_rows_is_said(tmp_path):
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [f"{today - dt.timedelta(days=number):%Y-%m-%d}" for number in (2, 1, 0)]
    window = {"window_start": today - dt.timedelta(days=2), "window_end": today + dt.timedelta(days=1)}

    def write(*fares):
        for day, fare in zip(days, fares, strict=True):
            (tmp_path / f"{day}.csv").write_text(f"day,fare\n{day},{fare}\n")

    def night(run_id, **changes):
        source = FilesSource(path=f"{tmp_path}/{{date:%Y-%m-%d}}.csv")
        return fetch(source, **window, folder=tmp_path / "downloads", run_id=run_id, **changes)

    write(1, 1, 1)
    assert night("first").revised == []
    write(2, 1, 2)
    second = night("second")
    assert second.revised == [f"{tmp_path}/{days[0]}.csv"], "today was not over"
    assert second.revision.startswith("1 of 3 files has changed at the source since 20")
    assert night("second").revised == second.revised, "the run is tried again"
    assert night("third").revised == night("fourth", fresh=True).revised == []


@pytest.fixture
def trips(tmp_path):
    """Nights of January 2016 over local files, each with the rows of a day."""
    folder = tmp_path / "trips"

    def write(*names):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"day,trips,fare,city,card\n{name[:10]},1,2.5,A,0\n")

    def night(run_id, path="{date:%Y-%m-%d}.csv", window=JANUARY):
        return download(FilesSource(path=f"{folder}/{path}"), tmp_path / "downloads", *window, run_id=run_id)

    write("2016-01-01.csv", "2016-01-02.csv", "2016-01-03.csv", "2016-02-01.csv")
    return SimpleNamespace(folder=folder, write=write, night=night)


def test_a_local_file_that_is_gone_is_said_once_and_its_rows_are_in_no_snapshot(trips, tmp_path):
    assert snapshot(trips.night("first"), tmp_path / "snapshot").rows == 3
    (trips.folder / "2016-01-02.csv").unlink()
    trips.night("of another window", window=(utc(2016, 2, 1), utc(2016, 3, 1)))
    for _ in range(2):  # the run is tried again
        second = trips.night("second")
        assert (second.removed, second.revised) == ([f"{trips.folder}/2016-01-02.csv"], [])
        assert second.revision.startswith("1 file is gone from the source since 20")
        assert second.revision.endswith(f"UTC: {trips.folder}/2016-01-02.csv")
    assert snapshot(second, tmp_path / "snapshot").rows == 2
    assert trips.night("third").revision == ""
    trips.write("2016-01-02.csv")
    assert trips.night("fourth").revised == [f"{trips.folder}/2016-01-02.csv"], "it is back"


def test_all_files_of_the_window_are_gone(trips):
    trips.night("first")
    for day in (1, 2, 3):
        (trips.folder / f"2016-01-0{day}.csv").unlink()
    second = trips.night("second")
    assert (second.files, len(second.removed)) == ([], 3)
    assert second.revision.startswith("3 files are gone from the source")


def test_a_file_of_a_day_that_was_not_over_may_go(trips):
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    changes = {"window": (today, today + dt.timedelta(days=1)), "path": "{date:%Y-%m-%d}/*.csv"}
    trips.write(f"{today:%Y-%m-%d}/half.csv")
    trips.night("first", **changes)
    (trips.folder / f"{today:%Y-%m-%d}/half.csv").unlink()
    trips.write(f"{today:%Y-%m-%d}/whole.csv")
    assert trips.night("second", **changes).removed == []


def test_files_without_dates_that_are_all_replaced_are_not_said(trips):
    for name in ("2016-01-02.csv", "2016-01-03.csv", "2016-02-01.csv"):
        (trips.folder / name).unlink()
    trips.night("first", "*.csv")
    (trips.folder / "2016-01-01.csv").rename(trips.folder / "2016-01-02.csv")
    assert trips.night("second", "*.csv").removed == []
    trips.write("2016-01-03.csv")
    assert trips.night("third", "*.csv").removed == []
    (trips.folder / "2016-01-02.csv").unlink()
    assert trips.night("fourth", "*.csv").removed == [f"{trips.folder}/2016-01-02.csv"]


def test_a_file_that_the_source_does_not_name_any_more_is_not_gone(trips):
    trips.night("first", "")
    for path in ("2016-01-0[12].csv", "{date:%Y-%m-%d}.csv"):
        assert trips.night(path, path).removed == []


def test_another_address_and_another_time_column_have_parts_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setitem(MODULES, "python", "tests.support.parts")
    window = {"window_start": utc(2016, 1, 1), "window_end": utc(2016, 1, 2), "folder": tmp_path / "downloads"}
    label = {"kind": "number", "column": "tips"}
    for address in ("a", "b"):
        (tmp_path / address).write_text(json.dumps({"rows": {FIRST: "1,10\n"}, "fingerprints": {FIRST: "v1"}}))

    def reused(address, **changes):
        data = Data(**{"id_columns": [], "time_column": "day", "label": label} | changes)
        return fetch(PythonSource(), **window, address=str(tmp_path / address), data=data).reused

    window["run_id"] = "first"
    assert (reused("a"), reused("b")) == (0, 0)
    window["run_id"] = "second"
    assert (reused("a"), reused("b"), reused("a", time_column="end"), reused("a", time_format="epoch_s")) == (
        1,
        1,
        0,
        0,
    )


@pytest.fixture
def days(tmp_path):
    """The address of a source with rows of one day, and the arguments of `fetch` for that day."""
    address = tmp_path / "days"
    address.write_text(json.dumps({"rows": {FIRST: "1,10\n"}, "fingerprints": {FIRST: "v1"}}))
    day = {"window_start": utc(2016, 1, 1), "window_end": utc(2016, 1, 2), "folder": tmp_path / "downloads"}
    return str(address), day


def test_another_account_has_parts_of_its_own_and_another_key_has_not(days, monkeypatch):
    monkeypatch.setitem(MODULES, "python", "tests.support.parts")
    address, window = days

    def is_reused(run_id, **fields):
        connection = Connection(host="api.example.org", **fields)
        return fetch(PythonSource(), **window, address=address, connection=connection, run_id=run_id).reused == 1

    north = {"params": {"account": "north", "api_key": "k1"}, "token": "t1"}
    assert not is_reused("first", extra=north)
    assert is_reused("second", extra=dict(reversed(north.items())))
    assert is_reused("third", password="p2", extra={"params": {"account": "north", "api_key": "k2"}, "token": "t2"})
    assert not is_reused("fourth", extra={"params": {"account": "south", "api_key": "k1"}, "token": "t1"})
    assert not is_reused("fifth", extra={})
    assert not is_reused("sixth", extra={"options": "-c search_path=north"})


def test_keys_that_only_choose_parts_keep_the_parts_of_earlier_nights(days, monkeypatch):
    monkeypatch.setitem(MODULES, "files", "tests.support.parts")
    address, window = days

    def reused(run_id, **keys):
        return fetch(FilesSource(path="p", **keys), **window, address=address, run_id=run_id).reused

    assert (reused("first"), reused("second", extra_days=2), reused("third", format="csv")) == (0, 1, 0)
    for config in get_args(get_args(SourceConfig)[0]):
        assert config.model_fields.keys() >= config.SAME_BODIES


def test_a_source_tells_that_rows_were_revised_although_the_body_is_the_same(marked, tmp_path, monkeypatch):
    marked.night(tmp_path, "first")
    marked.fingerprints[FIRST] = "v2"
    fetch_day = Days.fetch
    monkeypatch.setattr(Days, "fetch", lambda *call: replace(fetch_day(*call), revised=True))
    second = marked.night(tmp_path, "second")
    assert [(revision.name, revision.since is not None) for revision in second.revised] == [(FIRST, True)]
