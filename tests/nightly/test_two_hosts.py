"""What one host has written is read, replaced and removed on the other, which shares no disk with it."""

import json
import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from nightly.io.paths import safe_name
from nightly.nights import download as download_step
from nightly.nights import snapshot as snapshot_step
from nightly.records.night import Download, utc_now
from nightly.records.part import PartRecord
from nightly.runtime import worker
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.verification import verify_snapshot
from nightly.sources.errors import SourceError
from nightly.sources.part_store import alone, in_use
from nightly.state.bucket import BucketState
from nightly.state.errors import StateAddressError
from nightly.state.hosts import check_path
from tests.support.nights import a_night, utc
from tests.support.parts import Days, contents
from tests.support.snapshots import DETAILS
from tests.support.two_hosts import damage, flip

COLUMNS = {"day": "timestamp", "fare": "float"}
DAYS = {"2015-01-01": "2015-01-01,3\n", "2015-01-02": "2015-01-02,4\n"}


def make_snapshot(paths, fares=(1.0, 2.0)):
    import pyarrow as pa

    from nightly.snapshots.types import TYPES

    store = SnapshotStore(paths.snapshots, "taxi")
    rows = pa.table(
        {"day": pd.date_range("2015-01-01", periods=len(fares), tz="UTC"), "fare": list(fares)},
        pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()]),
    )
    details = {name: value for name, value in DETAILS.items() if name != "rejected"}
    with SnapshotBuilder(store, COLUMNS, time_column="day", id_columns=[]) as builder:
        for batch in rows.to_batches():
            builder.add(batch)
        return builder.finish(label="fare", **details)


# --- snapshots


def test_a_snapshot_is_listed_without_its_rows_read_with_them_and_not_made_again(hosts):
    with hosts.session("A") as paths:
        manifest, created = make_snapshot(paths)
        assert created
    with hosts.session("B") as paths:
        store = SnapshotStore(paths.snapshots, "taxi")
        assert store.manifests() == [manifest] and store.get("") == manifest
        assert not list(store.path(manifest.snapshot_id).glob("*.parquet"))
        assert make_snapshot(paths) == (manifest, False)
        assert store.survey(content=True) == ([manifest], [])
        assert list(store.path(manifest.snapshot_id).glob("*.parquet"))


def test_a_damaged_copy_is_fetched_again_and_a_damaged_bucket_is_named_and_mended(hosts, caplog):
    with hosts.session("A") as paths:
        manifest, _ = make_snapshot(paths)
        folder = paths.snapshots / "taxi" / manifest.snapshot_id
        (shard,) = folder.glob("*.parquet")
        damage(shard)
        assert verify_snapshot(folder) == manifest
        assert "this host's copy was damaged, and is fetched again" in caplog.text
    (blob,) = hosts.keys("blobs/")
    hosts.change(blob, flip)
    with hosts.session("B") as paths:
        with pytest.raises(DamagedSnapshotError, match="in the bucket"):
            verify_snapshot(folder)
        mended, created = make_snapshot(paths)
        assert created and mended.snapshot_id == manifest.snapshot_id
    hosts.lose("A")
    with hosts.session("A") as paths:
        assert verify_snapshot(folder) == mended


def test_what_retention_removes_on_one_host_is_gone_on_the_other(hosts):
    with hosts.session("A") as paths:
        old, new = (make_snapshot(paths, fares)[0].snapshot_id for fares in ((1.0,), (2.0,)))
        os.utime(paths.snapshots / "taxi" / old, (0, 0))
    with hosts.session("B") as paths:
        store = SnapshotStore(paths.snapshots, "taxi")
        assert store.ids() == sorted([old, new])
        assert store.retain(1, set(), 0, set()) == [old]
    with hosts.session("A") as paths:
        assert SnapshotStore(paths.snapshots, "taxi").ids() == [new]
        verify_snapshot(paths.snapshots / "taxi" / new)


# --- downloads


def test_a_body_comes_from_the_bucket_and_not_from_the_source(hosts):
    with hosts.session("A") as paths:
        source = Days(DAYS)
        fetching = source.night(paths.downloads / "taxi", "first")
        assert source.fetched == list(DAYS)
        host = paths.var / "downloads/taxi/bodies"
        assert all(Path(file.path).parent == host for file in fetching.files)
    with hosts.session("B") as paths:
        source = Days(DAYS)
        assert contents(source.night(paths.downloads / "taxi", "second", settled_days=0)) == list(DAYS.values())
        assert source.fetched == []
        (paths.downloads / "taxi/bodies").joinpath(os.listdir(host)[0]).write_text("damaged")
        assert contents(source.night(paths.downloads / "taxi", "third", settled_days=0)) == list(DAYS.values())
        assert source.fetched == [], "its copy is replaced by the bucket's"


def test_a_body_that_the_bucket_has_lost_is_fetched_from_the_source(hosts):
    with hosts.session("A") as paths:
        Days(DAYS).night(paths.downloads / "taxi", "first")
    for blob in hosts.keys("blobs/"):
        hosts.change(blob, flip)
    with hosts.session("B") as paths:
        source = Days(DAYS)
        assert contents(source.night(paths.downloads / "taxi", "second", settled_days=0)) == list(DAYS.values())
        assert source.fetched == list(DAYS)
    hosts.lose("A")
    with hosts.session("A") as paths:
        source = Days(DAYS)
        assert contents(source.night(paths.downloads / "taxi", "third", settled_days=0)) == list(DAYS.values())
        assert source.fetched == [], "the bucket's bodies are whole again"


def test_a_killed_download_goes_on_where_it_stopped_on_the_other_host(hosts, monkeypatch):
    monkeypatch.setattr(BucketState, "_commit", lambda *_: None)
    with pytest.raises(SourceError), hosts.session("A") as paths:
        Days(DAYS, broken={"2015-01-02"}).night(paths.downloads / "taxi", "it")
    with hosts.session("B") as paths:
        source = Days(DAYS)
        source.night(paths.downloads / "taxi", "it", settled_days=0)
        assert source.fetched == ["2015-01-02"]


def test_bodies_stay_while_another_host_downloads_and_go_for_all_hosts(hosts):
    with hosts.session("A") as paths:
        night, folder = a_night(model="taxi"), paths.downloads / "taxi"
        fetching = Days(DAYS).night(folder, night.run_id)
        window = {"window_start": night.window_start, "window_end": night.as_of, "fetched_at": utc_now()}
        kept = Download(kind="python", files=fetching.files[:1], **window)
        night.save(night.folder(paths) / "request.json")
        kept.save(night.folder(paths) / "download.json")
        with in_use(folder), pytest.raises(BlockingIOError), alone(folder):
            pass
    with hosts.session("B") as paths:
        assert download_step.remove_old(paths, "taxi") == 1
    with hosts.session("A") as paths:
        bodies = [key for key in hosts.keys("manifests/downloads/") if "/bodies/" in key]
        assert len(bodies) == 1 and len(list((paths.downloads / "taxi/parts").iterdir())) == 1
        (record,) = (PartRecord.load(path) for path in (paths.downloads / "taxi/parts").glob("*.json"))
        assert record.name == "2015-01-01"


def test_a_host_with_another_var_is_told_so(hosts):
    with hosts.session("A") as paths:
        check_path(paths.snapshots / "taxi/x", paths.snapshots)
        with pytest.raises(StateAddressError, match="NIGHTLY_VAR is the same path on every host"):
            check_path(paths.var.with_name("elsewhere") / "snapshots/taxi/x", paths.snapshots)


# --- steps


def write_and_read(night_folder, paths):
    """A step: what it reads of the night, and a file that it writes there."""
    (night_folder / "distributions.json").write_text("{}")
    return json.loads((night_folder / "request.json").read_text())["run_id"]


def test_a_step_finds_its_night_by_model_and_run_id_where_no_task_has_opened_a_session(hosts, tmp_path):
    run_id = "scheduled__2016-01-02T03:00:00+00:00"
    with hosts.session("A") as paths:
        night = a_night(run_id=run_id)
        night.save(night.folder(paths) / "request.json")
    hosts.on("B")
    result = tmp_path / "result.json"
    handlers = logging.getLogger().handlers
    try:
        assert worker.run(f"{__name__}:write_and_read", Path("taxi", safe_name(run_id)), result) == 0
    finally:
        logging.getLogger().handlers = handlers
    assert json.loads(result.read_text()) == {"value": run_id}
    with hosts.session("A") as paths:
        assert (night.folder(paths) / "distributions.json").read_text() == "{}"


def test_each_task_of_a_night_reads_what_the_other_host_has_left_of_the_one_before(hosts):
    night = a_night(as_of=utc(2015, 1, 1), release=False)
    with hosts.session("A") as paths:
        night.save(night.folder(paths) / "request.json")
    with hosts.session("B") as paths:
        assert download_step.run(night.folder(paths), paths)["files"] == 1
    with hosts.session("A") as paths:
        first = snapshot_step.run(night.folder(paths), paths)
        assert first["rows"] > 3000 and first["created"]
    hosts.lose("A")
    for host in "BA":
        with hosts.session(host) as paths:
            assert snapshot_step.run(night.folder(paths), paths) == first | {"created": False}
