"""bin/state against a bucket."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightly.cli import state
from nightly.io.paths import python_path
from nightly.io.polling import poll
from nightly.nights.unfinished import unfinished
from nightly.state.manifests import blob_key
from nightly.state.obstore_objects import ObstoreObjects
from tests.nightly.state.conftest import Hosts, address, hosts, read, s3, write
from tests.support.records import release_record

__all__ = ["Hosts", "address", "hosts", "s3"]

RELEASED = release_record(version=20160101)


@pytest.fixture
def filled(tmp_path):
    """A folder's state, as nights leave it."""
    return write(
        tmp_path / "folder",
        {
            "snapshots/taxi/1/manifest.json": b"{}",
            "snapshots/taxi/1/rows-0.parquet": b"rows",
            "snapshots/taxi/.new-1/rows-0.parquet": b"half",
            "baselines/taxi/2016-1/baseline.json": b"{}",
            "pipeline/taxi/trainer/model/7/saved_model.pb": b"model",
            "pipeline/taxi/trainer/.system/executor_execution/7/x": b"of TFX",
            "downloads/taxi/bodies/hash": b"body",
            "downloads/taxi/parts/part.json": b"{}",
            "serving/taxi/20160101/saved_model.pb": b"model",
            "serving/models.config": b"config",
            "nights/taxi/run/verdict.json": b"{}",
            "nights/taxi/run/rejected.parquet": b"bad rows",
            "nights/taxi/run/.running-trainer": b"",
            "releases/taxi/20160101.json": RELEASED.model_dump_json().encode(),
            "schemas/taxi/1.pbtxt": b"schema",
        },
    )


def test_a_state_goes_to_a_bucket_and_back(filled, address, tmp_path, capsys):
    for _ in range(2):  # again after it was broken off
        assert state.main(["copy", str(filled), address]) == 0
    assert capsys.readouterr().out.endswith(f"{address} has 6 contents and 4 records of {filled}\n")
    assert state.main(["check", "--content"]) == 0
    assert "4 records: no problems" in capsys.readouterr().out
    assert state.main(["copy", address, str(tmp_path / "back")]) == 0
    not_copied = [name for name in read(filled) if "/." in name or name == "serving/models.config"]
    assert len(not_copied) == 4
    assert read(tmp_path / "back") == {name: data for name, data in read(filled).items() if name not in not_copied}


def touch(path, moment):
    os.utime(path, (moment, moment))


def test_the_order_of_last_use_and_of_a_nights_records_stays(filled, address, tmp_path):
    snapshots = ["b", "c", "a"]  # the oldest first
    for n, name in enumerate(snapshots):
        touch(write(filled / "snapshots/taxi" / name, {"manifest.json": b"{}"}), 1000 + n)
    for n in range(40):
        for at, name in enumerate(["request.json", "download.json", "verdict.json"]):
            touch(write(filled / f"nights/taxi/{n:02}", {name: b"{}"}) / name, 5000 + 10 * n + at)
    with held_up(filled / "nights/taxi/07/request.json"):
        assert state.main(["copy", str(filled), address]) == 0
    back = tmp_path / "back"
    assert state.main(["copy", address, str(back)]) == 0

    def times(*names):
        return [(back / name).stat().st_mtime for name in names]

    used = times(*(f"snapshots/taxi/{name}" for name in snapshots))
    assert used == sorted(set(used))
    for n in range(40):
        own = times(*(f"nights/taxi/{n:02}/{name}.json" for name in ("request", "download", "verdict")))
        assert own == sorted(own)
    assert unfinished(back / "nights/taxi") == []
    downloads = times(*(f"nights/taxi/{n:02}/download.json" for n in range(40)))
    assert downloads == sorted(downloads)
    assert len(set(downloads[-5:])) == 5


def test_nights_are_copied_at_the_same_time_and_their_verdicts_last(filled, address, s3, monkeypatch):
    names = ["request.json", "download.json", "snapshot.json", "rejected.parquet", "verdict.json"]
    for n in range(20):
        for at, name in enumerate(names):
            touch(write(filled / f"nights/taxi/{n:02}", {name: b"{}"}) / name, 5000 + 10 * n + at)
    real, now, most = ObstoreObjects.put, set(), []

    def put(objects, key, data):
        now.add(key)
        most.append(len(now))
        time.sleep(0.05)
        now.remove(key)
        return real(objects, key, data)

    monkeypatch.setattr(ObstoreObjects, "put", put)
    assert state.main(["copy", str(filled), address]) == 0
    assert max(most) > 2
    written = [path for method, path, _ in s3.requests if method == "PUT"]
    content = max(at for at, path in enumerate(written) if "/manifests/" in path or "/blobs/" in path)
    records = [at for at, path in enumerate(written) if "/records/nights/" in path]
    verdicts = [at for at in records if re.search(r"/\d\d/verdict\.json$", written[at])]
    assert content < min(records)
    assert min(verdicts) > max(at for at in records if written[at].endswith(("request.json", "download.json")))
    for n in range(20):
        own = [path for path in written if f"/records/nights/taxi/{n:02}/" in path]
        assert [path.rpartition("/")[2] for path in own] == [name for name in names if name != "rejected.parquet"]


@contextmanager
def held_up(record):
    """Have a record's file take a while to read, as its request may do."""
    real = Path.read_bytes

    def read_bytes(path):
        if path == record:
            time.sleep(1.5)
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        yield


def test_a_copy_that_was_killed_is_completed_by_another(filled, address, s3, hosts, tmp_path, capsys):
    names = [f"{n * 7919 % 10}" for n in range(10)]
    for n, name in enumerate(names):
        touch(write(filled / "snapshots/taxi" / name, {"rows": name.encode() * 1000}), 1000 + n)
    code = f"from nightly.cli import state; state.main(['copy', {str(filled)!r}, {address!r}])"
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": python_path()})
    copied = poll(
        lambda: [path for method, path, _ in s3.requests if method == "PUT" and "/manifests/" in path],
        until=lambda copied: len(copied) >= 4 or child.poll() is not None,
        every=0.01,
        seconds=300,
    )
    child.kill()
    child.wait()
    assert len(copied) >= 4, f"only {len(copied)} manifests were written"
    with hosts.on("a") as (bucket, _):
        assert 3 <= len(bucket.objects.list("manifests")) < 10
    assert state.main(["copy", str(filled), address]) == 0
    assert state.main(["check", "--content"]) == 0
    with hosts.on("a") as (bucket, _):
        times = {entry.key: entry.modified for entry in bucket.objects.list("manifests/snapshots/taxi")}
    times = [times[f"manifests/snapshots/taxi/{name}.json"] for name in names]
    assert times == sorted(set(times))


def test_a_bucket_whose_lists_lie_is_not_copied(filled, address, tmp_path, monkeypatch, capsys):
    state.main(["copy", str(filled), address])
    real = ObstoreObjects.list
    monkeypatch.setattr(ObstoreObjects, "list", lambda self, prefix: real(self, prefix)[:1])
    assert state.main(["copy", address, str(tmp_path / "back")]) == 1
    assert "do not have what was just written" in capsys.readouterr().err


def test_a_session_has_what_was_copied(filled, address, hosts):
    state.main(["copy", str(filled), address])
    with hosts.on("a") as (bucket, _), bucket.session("taxi") as paths:
        assert (paths.nights / "taxi/run/verdict.json").exists()
        bucket.fetch(paths.nights / "taxi/run/rejected.parquet")
        assert (paths.nights / "taxi/run/rejected.parquet").read_bytes() == b"bad rows"


def test_a_damaged_bucket(filled, address, hosts, capsys):
    state.main(["copy", str(filled), address])
    with hosts.on("a") as (bucket, _):
        blob = next(iter(bucket.content.manifest("snapshots/taxi/1").blobs))
        bucket.objects.delete(blob_key(blob))
    assert state.main(["check"]) == 1
    assert capsys.readouterr().err == f"error: snapshots/taxi/1: its blob {blob} is missing\n"


def test_a_sweep_spares_young_blobs(filled, address, hosts, capsys):
    state.main(["copy", str(filled), address])
    with hosts.on("a") as (bucket, var):
        bucket.remove(var / "snapshots/taxi/1")
    capsys.readouterr()
    assert state.main(["sweep"]) == 0
    expected = (
        "deleted 0 blobs of 0.0 MB, and 0 objects that dead processes left; 1 other blobs that no manifest names are "
        "younger than 24 hours\n"
    )
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "NIGHTLY_STATE names no bucket; set it to s3://bucket/prefix"),
        (["sweep"], "NIGHTLY_STATE names no bucket"),
        (["copy", "a", "b"], "FROM and TO must be a folder and a bucket"),
        (["copy", "/no/such", "s3://bucket"], "/no/such is not a folder; name a folder"),
        (["copy", "/tmp", "ftp://bucket"], "use a folder, or a bucket as s3://bucket/prefix"),
        (["sweep", "--grace", "0"], "--grace"),
    ],
)
def test_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.delenv("NIGHTLY_STATE", raising=False)
    try:
        status = state.main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
