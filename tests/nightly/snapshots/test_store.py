"""Immutable, content-addressed snapshots on disk."""

import concurrent.futures
import os
import shutil
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.io.owned import owned_folder
from nightly.snapshots import builder as module
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.errors import DamagedSnapshotError, SnapshotNotFoundError
from nightly.snapshots.order import by_time_and_hash, last_of_each
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.verification import verify_snapshot
from tests.support.nights import utc
from tests.support.snapshots import DETAILS

COLUMNS = {"day": "timestamp", "id": "int64", "text": "string", "amount": "float"}


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(tmp_path, "test")


def batch(ids, text="x"):
    days = [utc(2016, 1, 1 + n % 28) for n in ids]
    arrays = [pa.array(days, pa.timestamp("us", "UTC")), pa.array(ids), pa.array([text] * len(ids), pa.string())]
    return pa.RecordBatch.from_arrays([*arrays, pa.array([n / 3 for n in ids])], list(COLUMNS))


def rows_of(store, manifest):
    rows = []
    for file in manifest.files:
        rows += pq.read_table(store.path(manifest.snapshot_id) / file.name).to_pylist()
    return rows


def create(store, *batches, id_columns=(), keep_equal=False):
    with SnapshotBuilder(
        store, COLUMNS, time_column="day", id_columns=list(id_columns), keep_equal=keep_equal
    ) as builder:
        for rows in batches:
            builder.add(rows)
        return builder.finish(label="text", **DETAILS)


def test_a_snapshot_is_listed_found_by_a_prefix_and_verified(store):
    manifest, created = create(store, batch(range(10)))
    assert created
    assert [found.snapshot_id for found in store.manifests()] == [manifest.snapshot_id]
    assert store.get(manifest.snapshot_id[:6]) == manifest
    assert store.verify(manifest.snapshot_id) == manifest
    names = sorted(path.name for path in store.path(manifest.snapshot_id).iterdir())
    assert names == ["manifest.json", "rows-00000-of-00001.parquet"]
    assert [path.name for path in store.folder.iterdir()] == [manifest.snapshot_id]


def test_equal_rows_are_one_row_or_rows_of_their_own(store):
    dropped, _ = create(store, batch([1, 2]), batch([2, 3]))
    kept, _ = create(store, batch([1, 2]), batch([2, 3]), keep_equal=True)
    again, created = create(store, batch([3, 2, 2, 1]), keep_equal=True)
    assert (dropped.rows, kept.rows) == (3, 4)
    assert sorted(row["id"] for row in rows_of(store, kept)) == [1, 2, 2, 3]
    assert (again, created) == (kept, False), "the order and the division of the bodies do not matter"
    without, _ = create(store, batch([1, 2, 3]), keep_equal=True)
    assert without.snapshot_id == dropped.snapshot_id, "rows that differ make the same snapshot either way"


def test_the_same_rows_are_the_same_snapshot_and_nothing_is_written_again(store):
    first, _ = create(store, batch(range(10)))
    written = (store.path(first.snapshot_id) / "manifest.json").stat()
    again, created = create(store, batch([7, 8, 9]), batch(range(7)))
    assert (again, created) == (first, False)
    after = (store.path(first.snapshot_id) / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_null_and_types_are_part_of_the_content(store):
    ids = {create(store, batch([1], text))[0].snapshot_id for text in ("x", "y", "", None)}
    assert len(ids) == 4


@pytest.mark.parametrize("open_at_once", [2, 256])
def test_many_shards_hold_every_row_once_in_order(store, monkeypatch, open_at_once):
    monkeypatch.setattr(module, "SHARD_ROWS", 7)
    monkeypatch.setattr(module, "OPEN_SHARDS", open_at_once)
    manifest, _ = create(store, batch(range(0, 50, 2)), batch(range(49, 0, -2)))
    assert [file.rows for file in manifest.files] == [7] * 7 + [1]
    rows = rows_of(store, manifest)
    assert sorted(row["id"] for row in rows) == list(range(50))
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)


def test_the_last_row_of_an_id_stays(store):
    manifest, _ = create(store, batch([1, 2], "old"), batch([2, 3], "new"), id_columns=["id"])
    rows = rows_of(store, manifest)
    assert [(row["id"], row["text"]) for row in rows] == [(1, "old"), (2, "new"), (3, "new")]
    assert manifest.rows == 3
    assert sum(manifest.rows_by_day.values()) == 3
    assert set(manifest.rows_by_day) == {str(row["day"].date()) for row in rows}


def test_the_last_rows_are_found_part_by_part_as_at_once():
    random = np.random.default_rng(0)
    known = random.integers(0, 2**63, (300, 2), dtype=np.uint64)
    for size in (1, 17, 1000):
        ids = known[random.integers(0, len(known), size)]
        last = {tuple(row): place for place, row in enumerate(ids.tolist())}
        positions, superseded = last_of_each(ids)
        assert (positions.tolist(), superseded) == (sorted(last.values()), 0)


def test_rows_are_in_the_order_of_time_and_of_the_whole_hash():
    random = np.random.default_rng(0)
    for distinct in (2**63, 3):  # with 3, most halves of hashes are the same
        times, hashes = random.integers(0, 50, 1000), random.integers(0, distinct, (1000, 2), dtype=np.uint64)
        order = by_time_and_hash(times, hashes)
        keys = [(times[n], *hashes[n]) for n in order]
        assert sorted(order) == list(range(1000))
        assert keys == sorted(keys)


def test_creators_of_the_same_content_at_once_all_succeed(store):
    barrier, results = threading.Barrier(4), []

    def run():
        with SnapshotBuilder(store, COLUMNS, time_column="day", id_columns=[]) as builder:
            builder.add(batch(range(1000)))
            barrier.wait()
            results.append(builder.finish(label="text", **DETAILS))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({manifest.snapshot_id for manifest, _ in results}) == 1
    assert sum(created for _, created in results) == 1
    assert len(list(store.folder.iterdir())) == 1


def test_a_creator_that_fails_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), SnapshotBuilder(store, COLUMNS, time_column="day", id_columns=[]) as builder:
        builder.add(batch([1]))
        raise ZeroDivisionError
    assert list(store.folder.iterdir()) == []


def test_what_a_dead_creator_left_is_never_listed_and_later_removed(store):
    create(store, batch([1]))
    dead = store.folder / ".building-dead"
    dead.mkdir()
    with owned_folder(store.folder, ".building-") as alive:
        for folder in (dead, alive):
            (folder / "snapshot").mkdir()
            (folder / "snapshot/manifest.json").write_text("{}")
            os.utime(folder, (0, 0))
        assert len(store.manifests()) == 1
        create(store, batch([2]))
        assert not dead.exists()
        assert alive.exists()


SHARD = "rows-00000-of-00001.parquet"


def flip(path, position=0.5):
    """Change one bit of a file, as a disk may."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 1
    path.write_bytes(content)


DAMAGES = [
    (lambda folder: (folder / SHARD).write_bytes(b"x"), "has 1 bytes instead of"),
    (lambda folder: flip(folder / SHARD), f"{SHARD} has changed"),
    (lambda folder: (folder / SHARD).unlink(), f"{SHARD} is missing"),
    (lambda folder: (folder / "rows-9.parquet").write_bytes(b"x"), "does not belong"),
    (lambda folder: (folder / "manifest.json").unlink(), "its manifest.json is missing"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "Invalid JSON"),
    (lambda folder: shutil.rmtree(folder), "is gone"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damage_is_found_and_the_same_rows_replace_it(store, damage, words, caplog):
    manifest, _ = create(store, batch(range(10)))
    folder = store.path(manifest.snapshot_id)
    damage(folder)
    with pytest.raises(DamagedSnapshotError, match=words) as caught:
        verify_snapshot(folder)
    assert "Clear `snapshot`" in str(caught.value)
    _, created = create(store, batch(range(10)))
    assert created
    assert store.verify(manifest.snapshot_id).files == manifest.files
    assert [path.name for path in store.folder.iterdir()] == [manifest.snapshot_id]
    assert words in caplog.text or words == "is gone"


def test_a_damaged_snapshot_does_not_hide_the_others(store, caplog):
    gone, whole = (create(store, batch([n]))[0] for n in (1, 2))
    (store.path(gone.snapshot_id) / SHARD).unlink()
    assert store.manifests() == [whole]
    assert f"{gone.snapshot_id} is damaged: {SHARD} is missing" in caplog.text
    flip(store.path(whole.snapshot_id) / SHARD)
    assert store.manifests() == [whole], "sizes only"
    manifests, damaged = store.survey(content=True)
    assert (manifests, len(damaged)) == ([], 2)


def test_retention_removes_damaged_ones_too(store):
    ids = [create(store, batch([n]))[0].snapshot_id for n in range(3)]
    (store.path(ids[0]) / "manifest.json").unlink()
    for age, name in enumerate(reversed(ids)):
        os.utime(store.path(name), (time.time() - 60 * age,) * 2)
    assert store.retain(1, set(), 0, {ids[1]}) == [ids[0]]


def test_two_creators_that_meet_a_damaged_snapshot_leave_a_whole_one(store):
    manifest, _ = create(store, batch(range(1000)))
    (store.path(manifest.snapshot_id) / SHARD).unlink()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: create(store, batch(range(1000))), range(4)))
    assert {found.snapshot_id for found, _ in results} == {manifest.snapshot_id}
    assert store.verify(manifest.snapshot_id)
    assert len(list(store.folder.iterdir())) == 1


def test_an_unknown_id_names_the_nearest(store):
    with pytest.raises(SnapshotNotFoundError, match="there is none yet"):
        store.get("abc")
    manifest, _ = create(store, batch([1]))
    with pytest.raises(SnapshotNotFoundError, match=f"did you mean '{manifest.snapshot_id}'"):
        store.get(manifest.snapshot_id[:-1] + "x")
    create(store, batch([2]))
    with pytest.raises(SnapshotNotFoundError, match="several"):
        store.get("")


def test_retention_removes_the_longest_unused_and_never_a_referred_one(store):
    ids = [create(store, batch([n]))[0].snapshot_id for n in range(6)]
    for age, name in enumerate(reversed(ids)):
        moment = time.time() - 60 * age
        os.utime(store.path(name), (moment, moment))
    create(store, batch([1]))  # used again
    assert sorted(store.retain(2, {ids[0]}, 9, set())) == sorted([ids[2], ids[3], ids[4]])
    assert {manifest.snapshot_id for manifest in store.manifests()} == {ids[0], ids[1], ids[5]}
    assert store.retain(2, {ids[0]}, 9, set()) == []
