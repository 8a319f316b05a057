"""Sessions: each task's own copy of the records, and what it changes."""

import os
import subprocess
import sys

import pytest

from nightly.io.atomic import write_atomically
from nightly.io.paths import python_path
from nightly.state import bucket, records
from nightly.state.errors import ChangedElsewhereError, StateError
from tests.nightly.state.conftest import read, write


def night(paths, run="run"):
    return paths.nights / "taxi" / run


def test_a_later_session_on_another_host_sees_what_this_wrote(hosts):
    with hosts.on("a") as (state, var), state.session("taxi") as paths:
        write(night(paths), {"request.json": b"{}", ".lock": b"", "sub/note.txt": b"note"})
    with hosts.on("b") as (state, var), state.session("taxi") as paths:
        assert (night(paths) / "request.json").read_bytes() == b"{}"
        assert (night(paths) / "sub/note.txt").read_bytes() == b"note"
        assert not (night(paths) / ".lock").exists()
        assert not (var / "nights").exists()


def test_nothing_is_visible_before_the_end(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {"request.json": b"{}"})
        with hosts.on("b") as (other, _):
            assert not (night(other.view("taxi")) / "request.json").exists()


def test_an_error_keeps_what_was_written_before(hosts):
    with hosts.on("a") as (state, _var):
        with pytest.raises(ZeroDivisionError), state.session("taxi") as paths:
            write(night(paths), {"failure.json": b"{}"})
            raise ZeroDivisionError
        with state.session("taxi") as paths:
            assert (night(paths) / "failure.json").exists()


def test_deletions(hosts):
    with hosts.on("a") as (state, _var):
        with state.session("taxi") as paths:
            write(night(paths), {"1.json": b"1", "2.json": b"2", "rejected.parquet": b"rows"})
        with state.session("taxi") as paths:
            (night(paths) / "1.json").unlink()
            (night(paths) / "rejected.parquet").unlink()
    with hosts.on("b") as (state, _var), state.session("taxi") as paths:
        assert [path.name for path in night(paths).iterdir()] == ["2.json"]


def test_the_second_of_two_writers_is_told(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {"1.json": b"1"})
    with (
        hosts.on("a") as (state, _var),
        pytest.raises(ChangedElsewhereError, match=r"nights/taxi/run/1\.json was changed by another host"),
        state.session("taxi") as paths,
    ):
        session = os.environ.pop("NIGHTLY_SESSION")
        with hosts.on("b") as (other, _), other.session("taxi") as others:
            write(night(others), {"1.json": b"theirs"})
        os.environ["NIGHTLY_SESSION"] = session
        write(night(paths), {"1.json": b"mine", "2.json": b"not in conflict"})
    with hosts.on("b") as (state, _var), state.session("taxi") as paths:
        assert (night(paths) / "1.json").read_bytes() == b"theirs"
        assert (night(paths) / "2.json").exists()


@pytest.mark.parametrize("changed", ["taxi", "digits"])
def test_the_records_of_one_model_are_committed_whatever_becomes_of_anothers(hosts, changed):
    with (
        hosts.on("a") as (state, _),
        pytest.raises(ChangedElsewhereError, match=f"nights/{changed}/run/1.json was changed by another host"),
        state.session("taxi") as paths,
        state.session("digits"),
    ):
        for model in ("taxi", "digits"):
            write(paths.nights / model / "run", {"1.json": b"mine"})
        state.objects.put(f"records/nights/{changed}/run/1.json", b"of another host")
    other = {"taxi": "digits", "digits": "taxi"}[changed]
    with hosts.on("b") as (state, _), state.session(other) as paths:
        assert read(paths.nights / other / "run") == {"1.json": b"mine"}


def test_what_another_host_has_changed_is_not_deleted(hosts):
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        write(night(paths), {"1.json": b"1", "2.json": b"2"})
    with (
        hosts.on("a") as (state, _),
        pytest.raises(ChangedElsewhereError, match=r"nights/taxi/run/1\.json was changed by another host"),
        state.session("taxi") as paths,
    ):
        (night(paths) / "1.json").unlink()
        (night(paths) / "2.json").unlink()
        state.objects.put("records/nights/taxi/run/1.json", b"of another host")
    with hosts.on("b") as (state, _), state.session("taxi") as paths:
        assert read(night(paths)) == {"1.json": b"of another host"}


def test_a_large_file_of_a_night_is_fetched_when_it_is_read(hosts, s3):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {"rejected.parquet": b"rows"})
    with hosts.on("b") as (state, _var), state.session("taxi") as paths:
        assert not (night(paths) / "rejected.parquet").exists()
        state.fetch(night(paths) / "rejected.parquet")
        assert (night(paths) / "rejected.parquet").read_bytes() == b"rows"
        (night(paths) / "rejected.parquet").unlink()
        write(night(paths), {"rejected.parquet": b"other rows"})
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        state.fetch(night(paths) / "rejected.parquet")
        assert (night(paths) / "rejected.parquet").read_bytes() == b"other rows"


CHILD = """
from nightly.state import current
from pathlib import Path
with current().session("taxi") as paths:
    (paths.nights / "taxi/run/child.json").write_text("{}")
    current().publish(paths.nights / "taxi/run/child.json")
    (paths.nights / "taxi/run/later.json").write_text("{}")
"""


def test_a_child_process_works_in_the_session_of_its_parent(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {"1.json": b"1"})
        environment = {**os.environ, "PYTHONPATH": python_path()}
        subprocess.run([sys.executable, "-c", CHILD], env=environment, check=True)
        with hosts.on("b") as (other, _):
            assert {path.name for path in night(other.view("taxi")).glob("*")} == {"child.json"}
    with hosts.on("b") as (state, _var), state.session("taxi") as paths:
        assert {path.name for path in night(paths).iterdir()} == {"1.json", "child.json", "later.json"}


def test_refresh_brings_what_others_published_and_keeps_ones_own(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {"mine.json": b"mine"})
        session = os.environ.pop("NIGHTLY_SESSION")
        with hosts.on("b") as (other, _), other.session("taxi") as others:
            write(night(others), {"theirs.json": b"theirs"})
        os.environ["NIGHTLY_SESSION"] = session
        assert not (night(paths) / "theirs.json").exists()
        state.refresh(night(paths))
        assert {path.name for path in night(paths).iterdir()} == {"mine.json", "theirs.json"}


def test_snapshots_and_baselines_are_listed_before_they_are_fetched(hosts):
    files = {"manifest.json": b"{}", "rows-0.parquet": b"rows"}
    with hosts.on("a") as (state, var), state.session("taxi") as paths:
        state.publish(write(paths.snapshots / "taxi/1", files))
        state.publish(write(paths.baselines / "taxi/20160101T000000-1", {"baseline.json": b"{}", "train/x": b"x"}))
        state.publish(write(paths.snapshots / "digits/1", files))
    with hosts.on("b") as (state, var), state.session("taxi") as paths:
        assert [path.name for path in (paths.snapshots / "taxi/1").iterdir()] == ["manifest.json"]
        assert len(list((paths.baselines / "taxi").iterdir())) == 1
        assert not (paths.snapshots / "digits").exists()
        state.fetch(paths.snapshots / "taxi/1")
        assert {path.name for path in (paths.snapshots / "taxi/1").iterdir()} == set(files)
    with hosts.on("a") as (state, var):
        state.remove(var / "snapshots/taxi/1")
    with hosts.on("b") as (state, var), state.session("taxi") as paths:
        assert list((paths.snapshots / "taxi").iterdir()) == []


def test_bodies_are_the_hosts_and_parts_the_sessions(hosts):
    with hosts.on("a") as (state, var), state.session("taxi") as paths:
        write(paths.downloads / "taxi/parts", {"part.json": b"{}"})
        state.publish(write(paths.downloads / "taxi/bodies", {"hash": b"body"}) / "hash")
        assert (var / "downloads/taxi/bodies/hash").exists()
    with hosts.on("b") as (state, var), state.session("taxi") as paths:
        assert (paths.downloads / "taxi/parts/part.json").exists()
        state.fetch(paths.downloads / "taxi/bodies/hash")
        assert (var / "downloads/taxi/bodies/hash").read_bytes() == b"body"


def test_the_next_session_reads_no_record_again(hosts, s3):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(night(paths), {f"{n}.json": b"%d" % n for n in range(30)})
    with hosts.on("b") as (state, _var):
        with state.session("taxi"):
            pass
        s3.requests.clear()
        with state.session("taxi") as paths:
            assert len(list(night(paths).iterdir())) == 30
        assert not [path for _, path, _ in s3.requests if "records/nights/taxi/run/" in path]


def test_a_version_of_a_record_has_its_time_as_soon_as_others_can_link_it(hosts, monkeypatch):
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        write(night(paths), {"1.json": b"1"})
    times = {}

    def write_and_look(path, *args, **options):
        write_atomically(path, *args, **options)
        times[path] = path.stat().st_mtime

    monkeypatch.setattr(records, "write_atomically", write_and_look)
    with hosts.on("b") as (state, var), state.session("taxi"):
        (version,) = (var / "cache/records/taxi").iterdir()
        assert times[version] == version.stat().st_mtime


def test_a_record_of_all_models(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        state.publish(write(paths.releases / "_all", {"models.config": b"first"}) / "models.config")
    with hosts.on("b") as (state, _var), state.session("digits") as paths:
        config = paths.releases / "_all/models.config"
        state.refresh(config)
        assert config.read_bytes() == b"first"
        config.write_bytes(b"second")
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        state.refresh(paths.releases / "_all")
        assert (paths.releases / "_all/models.config").read_bytes() == b"second"


def test_the_model_servers_files_stay_on_their_host(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        write(paths.serving, {"models.config": b"config", "server.json": b"{}"})
    with hosts.on("b") as (state, _var), state.session("taxi") as paths:
        assert not paths.serving.exists()
        assert not state.objects.list("records")


def test_a_view_is_as_old_as_it_must_be_when_the_bucket_does_not_answer(hosts, monkeypatch, caplog):
    with hosts.on("a") as (state, _):
        with state.session("taxi") as paths:
            write(night(paths), {"1.json": b"1"})
        state.view("taxi")
        monkeypatch.setattr(bucket, "VIEW_SECONDS", 0)
        monkeypatch.setattr(bucket, "VIEW_PATIENCE", 0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert (night(state.view("taxi")) / "1.json").read_bytes() == b"1"
        assert "the records of taxi are shown as they were: s3://" in caplog.text


def test_a_view_follows_the_bucket(hosts, monkeypatch):
    monkeypatch.setattr(bucket, "VIEW_SECONDS", 0)
    with hosts.on("a") as (state, _), hosts.on("b") as (other, _):
        for content in (b"1", b"2"):
            with state.session("taxi") as paths:
                write(night(paths), {"1.json": content, content.decode(): b"new"})
            assert (night(other.view("taxi")) / "1.json").read_bytes() == content
        with state.session("taxi") as paths:
            (night(paths) / "1").unlink()
        assert {path.name for path in night(other.view("taxi")).iterdir()} == {"1.json", "2"}


def test_a_session_that_has_ended(hosts, monkeypatch, tmp_path):
    monkeypatch.setenv("NIGHTLY_SESSION", str(tmp_path / "ended"))
    with (
        hosts.on("a") as (state, _),
        pytest.raises(StateError, match="has ended, and NIGHTLY_SESSION still names it"),
        state.session("taxi"),
    ):
        pass
