"""A night that finds the whole folder of the version in production gone, while its predecessor is there."""

import shutil

import pytest

from nightly.io.paths import Paths
from nightly.records.night import Night, utc_now
from nightly.release.store import ReleaseStore
from nightly.tfx.pipeline import pinned_production
from nightly.tfx.production import follow, prepare
from tests.support.releases import NOW, export, names, release, watching, whole

FIRST, LOST = NOW, NOW + 5


@pytest.fixture
def paths(tmp_path, monkeypatch) -> Paths:
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    return Paths.from_environment()


@pytest.fixture
def store(paths, tmp_path) -> ReleaseStore:
    """The predecessor and no folder of the version in production."""
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    release(store, export(tmp_path / "first"), "run-1", FIRST)
    release(store, export(paths.pipeline / "taxi/trainer/model/7", "b"), "run-2", LOST)
    shutil.rmtree(store.disk.path(LOST))
    return store


def planned(paths: Paths, store: ReleaseStore, run_id: str = "tonight") -> Night:
    night = Night(
        model="taxi", run_id=run_id, trigger="scheduled", requested_by="the schedule", as_of=utc_now(),
        window_start=utc_now(), release=True, train_steps=1, code_version="abc", planned_at=utc_now(),
        production_version=store.disk.production(),
    )  # fmt: skip
    night.save(night.folder(paths) / "request.json")
    return night


def test_it_comes_back_whole_from_the_artifact_that_was_released(paths, store):
    folder = planned(paths, store).folder(paths)
    with watching(store.disk.folder) as saw:
        prepare(folder, paths)
    assert saw[1] == [], "a server could load half of it"

    night = Night.load(folder / "request.json")
    assert (night.production_version, night.damaged_version) == (LOST, None)
    assert night.damage.startswith(f"the folder of version {LOST} in production was gone, and is restored: ")
    assert store.disk.verify(LOST).version == store.disk.production() == LOST
    assert names(store.disk.folder) == [str(FIRST), str(LOST)]
    assert whole(pinned_production(night, paths))


def test_without_a_copy_the_predecessor_is_the_baseline_until_one_is_there(paths, store, tmp_path):
    shutil.rmtree(paths.pipeline)
    folder = planned(paths, store).folder(paths)
    prepare(folder, paths)
    night = Night.load(folder / "request.json")
    assert (night.production_version, night.damaged_version) == (FIRST, LOST)
    assert "no whole copy is in" in night.damage and f"bin/releases quarantine taxi {LOST}" in night.damage
    follow(folder, paths)
    prepare(folder, paths)
    assert Night.load(folder / "request.json") == night

    export(paths.pipeline / "taxi/restored", "b")
    prepare(folder, paths)
    assert Night.load(folder / "request.json").production_version == store.disk.production() == LOST


def test_it_is_no_change_of_production_for_a_night_that_was_planned_before(paths, store):
    night = planned(paths, store).model_copy(update={"production_version": LOST})
    night.save(night.folder(paths) / "request.json")
    follow(night.folder(paths), paths)  # what `release` does alone when production has changed
    assert store.disk.production() == LOST
    prepare(night.folder(paths), paths)
    night = Night.load(night.folder(paths) / "request.json")
    assert (night.production_version, night.production_note, night.damaged_version) == (LOST, "", None)


def test_a_night_is_not_compared_with_its_own_lost_release(paths, store):
    folder = planned(paths, store, "run-2").folder(paths)
    prepare(folder, paths)
    assert Night.load(folder / "request.json").production_version == FIRST
    assert store.disk.production() == LOST


def test_without_a_copy_a_repaired_predecessor_does_not_hide_what_is_lost(paths, store):
    saved_model = store.disk.path(FIRST) / "saved_model.pb"
    copy = paths.pipeline / "taxi/trainer/model/6/saved_model.pb"
    shutil.rmtree(paths.pipeline)
    copy.parent.mkdir(parents=True)
    shutil.copy(saved_model, copy)
    saved_model.chmod(0o644)
    saved_model.write_bytes(b"damaged")
    folder = planned(paths, store).folder(paths)
    prepare(folder, paths)
    night = Night.load(folder / "request.json")
    assert (night.production_version, night.damaged_version) == (FIRST, LOST)
    assert f"bin/releases quarantine taxi {LOST}" in night.damage and "is repaired" in night.damage


def test_a_version_that_is_out_of_sight_or_on_a_volume_that_is_not_mounted_is_not_lost(store):
    store.disk.path(FIRST).rename(store.disk.serving / "elsewhere")
    assert store.disk.lost_production() is None
    (store.disk.serving / "elsewhere").rename(store.disk.path(FIRST))
    assert store.disk.lost_production() == LOST
    store.disk.aside("quarantined", LOST).mkdir()  # a rollback is renaming it
    assert store.disk.lost_production() is None
