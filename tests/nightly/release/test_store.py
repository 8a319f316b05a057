import logging
import os
import resource
import stat
import subprocess
import time
from pathlib import Path

import pytest

from nightly.io.files import hash_files
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError, SpaceError, WithdrawnError
from nightly.release.store import ReleaseStore
from tests.support.releases import FILES, NOW, export, loadable, names, origin, release, whole


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return export(tmp_path / "export")


def test_a_release_has_the_files_of_its_source_and_says_what_it_is_made_of(store, source):
    record = release(store, source)

    assert (record.version, record.state, record.previous_version) == (NOW, "released", None)
    assert (record.run_id, record.snapshot_id, record.code_version) == ("run-1", "5a17", "c0ffee")
    assert (record.requested_by, record.metrics) == ("someone", {"auc": 0.7})
    assert record.files == hash_files(source) and set(record.files) == set(FILES)
    assert store.disk.record(NOW) == store.disk.verify(NOW) == record
    assert hash_files(Path(record.path)) == record.files
    assert (Path(record.path) / "assets").is_dir()
    assert store.disk.production() == NOW


def test_the_version_is_the_time_when_no_other_is_given(store, source):
    record = store.release(source, origin())
    assert abs(record.version - time.time()) < 60


def test_everyone_can_read_a_version_whatever_the_umask(store, source):
    source.chmod(0o700)
    before = os.umask(0o077)
    try:
        record = release(store, source)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [store.disk.folder, *Path(record.path).rglob("*")]}
    assert modes == {0o644, 0o755}


def test_a_retry_gives_the_same_record_and_no_second_version(store, source):
    first = release(store, source)
    release(store, export(source.with_name("other"), "b"), "run-2", NOW + 5)

    assert release(store, source, now=NOW + 9) == first
    assert loadable(store.disk.folder) == [NOW, NOW + 5]


def test_a_run_that_trained_anew_after_its_release_releases_the_new_model(store, source):
    first = release(store, source)
    second = release(store, export(source, "trained anew"), now=NOW + 60)
    assert second.version == NOW + 60 and second.previous_version == first.version


def test_the_same_model_in_another_run_is_another_version(store, source):
    release(store, source)
    assert release(store, source, "run-2").version == NOW + 1


def test_versions_grow_when_the_clock_goes_back(store, source):
    given = [release(store, source, f"run-{i}", NOW - 1000 * i).version for i in range(4)]
    assert given == [NOW, NOW + 1, NOW + 2, NOW + 3]
    store.quarantine(NOW + 3, "bad")
    assert release(store, source, "run-9", NOW - 9).version == NOW + 4


def test_a_number_is_never_given_twice_even_if_its_record_is_gone(store, source):
    release(store, source)
    release(store, source, "run-2")
    store.quarantine(NOW + 1, "bad")
    (store.disk.releases / f"{NOW + 1}.json").unlink()
    assert release(store, source, "run-3").version == NOW + 2


@pytest.mark.parametrize(
    "name", ["20240102030405", "1", "-5", "01700000000", " 1700000000", "quarantined-20240102030405"]
)
def test_a_number_of_another_kind_is_refused(store, source, name):
    release(store, source)
    (store.disk.folder / name).mkdir()
    with pytest.raises(ReleaseError, match="not Unix seconds"):
        release(store, source, "run-2")
    assert store.disk.production() == NOW


def test_a_clock_that_was_never_set_is_refused(store, source):
    with pytest.raises(ReleaseError, match="clock"):
        release(store, source, now=12.0)


def test_a_version_without_a_record_is_reported_and_superseded_but_not_taken_for_production(store, source, caplog):
    release(store, source)
    (store.disk.folder / str(NOW + 100)).mkdir()

    with caplog.at_level(logging.WARNING):
        assert store.disk.production() == NOW
    assert str(NOW + 100) in caplog.text and "no release record" in caplog.text
    assert store.disk.unrecorded() == [str(NOW + 100)]
    assert release(store, source, "run-2").version == NOW + 101


def test_a_source_that_is_no_model_is_refused(store, source, tmp_path):
    (source / "saved_model.pb").unlink()
    with pytest.raises(ReleaseError, match=r"no saved_model\.pb"):
        release(store, source)
    (source / "saved_model.pb").symlink_to("/etc/hostname")
    with pytest.raises(ReleaseError, match="not a plain file"):
        release(store, source)
    assert not store.disk.folder.exists()


def test_a_source_that_changes_while_it_is_copied_is_not_released(store, source, monkeypatch):
    import nightly.release.transitions as module

    copy = module.copy_files

    def changed_after_hashing(*folders: Path) -> None:
        export(source, "written again")
        copy(*folders)

    monkeypatch.setattr(module, "copy_files", changed_after_hashing)
    with pytest.raises(DamagedError, match="changed meanwhile"):
        release(store, source)
    assert store.disk.records() == [] and not store.disk.folder.exists() and list(store.disk.serving.iterdir()) == []


def test_a_quarantined_version_is_out_of_sight_and_its_predecessor_serves(store, source):
    release(store, source)
    release(store, export(source, "b"), "run-2", NOW + 9)

    record = store.quarantine(NOW + 9, "golden predictions differ")

    assert (record.state, record.why) == ("quarantined", "golden predictions differ")
    assert store.quarantine(NOW + 9, "a retry") == store.disk.record(NOW + 9) == record
    assert store.disk.production() == NOW and loadable(store.disk.folder) == [NOW]
    assert whole(store.disk.folder / f"quarantined-{NOW + 9}")


def test_a_retry_does_not_bring_back_what_was_quarantined(store, source):
    release(store, source)
    store.quarantine(NOW, "golden predictions differ")
    with pytest.raises(WithdrawnError, match=r"quarantined.*golden predictions differ"):
        release(store, source)
    assert loadable(store.disk.folder) == []


def test_retention_keeps_the_newest_and_the_records_of_all(store, source):
    for i in range(6):
        release(store, export(source, str(i)), f"run-{i}", NOW + i)
    store.quarantine(NOW + 1, "bad")
    store.quarantine(NOW + 5, "bad")

    assert store.retain(3) == [NOW, NOW + 1]

    assert store.disk.released() == loadable(store.disk.folder) == [NOW + 2, NOW + 3, NOW + 4]
    assert names(store.disk.folder) == [*map(str, store.disk.released()), f"quarantined-{NOW + 5}"]
    states = ["removed", "removed", "released", "released", "released", "quarantined"]
    assert [record.state for record in store.disk.records()] == states
    assert store.disk.record(NOW + 1).why == "quarantined: bad"
    assert store.retain(3) == []
    with pytest.raises(WithdrawnError, match="removed"):
        release(store, export(source, "0"), "run-0")


def test_retention_never_removes_what_is_in_production_or_its_predecessor(store, source):
    for i in range(4):
        release(store, source, f"run-{i}", NOW + i)
    store.quarantine(NOW + 3, "bad")
    assert store.retain(1) == [NOW]
    assert store.disk.released() == [NOW + 1, NOW + 2]
    with pytest.raises(ValueError, match="1 or more"):
        store.retain(0)


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_damage_is_found_and_named(store, source, damage):
    version = Path(release(store, source).path)
    if damage == "changed":
        (version / FILES[0]).write_bytes(b"other")
    elif damage == "missing":
        (version / FILES[0]).unlink()
    else:
        (version / "extra").touch()
    with pytest.raises(DamagedError, match=FILES[0] if damage != "added" else "extra"):
        store.disk.verify(NOW)
    with pytest.raises(DamagedError):
        release(store, source)


def test_a_serving_volume_that_is_not_mounted_is_not_released_into(store, source):
    release(store, source)
    store.disk.folder.rename(store.disk.serving / "elsewhere")
    with pytest.raises(ReleaseError, match="mounted"):
        release(store, source, "run-2")
    assert not store.disk.folder.exists()


def test_an_empty_folder_made_beforehand_takes_the_first_version(store, source):
    store.disk.folder.mkdir(parents=True)
    assert release(store, source).version == NOW
    assert names(store.disk.folder) == [str(NOW)]


def test_leftovers_of_a_crash_are_cleared_away_by_the_next_release(store, source):
    store.disk.releases.mkdir(parents=True)
    (store.disk.releases / ".1699999999.json.x1y2").write_text("{")
    export(store.disk.serving / ".staging-taxi/1699999999")
    release(store, source)
    export(store.disk.folder / ".staging-1699999999")
    release(store, source, "run-2")
    assert names(store.disk.folder) == [str(NOW), str(NOW + 1)]
    assert names(store.disk.serving) == ["taxi"]
    assert names(store.disk.releases) == [".lock", f"{NOW}.json", f"{NOW + 1}.json"]


def test_a_write_that_fails_half_way_leaves_nothing(store, source):
    release(store, source)
    export(source, "bigger", kilobytes=64)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(ReleaseError, match="nothing was released"):
            release(store, source, "run-2", NOW + 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(store.disk.folder) == [str(NOW)] and len(store.disk.records()) == 1
    assert release(store, source, "run-2", NOW + 9).version == NOW + 9


def test_a_full_volume_is_refused_before_anything_is_copied(tmp_path, source):
    volume = tmp_path / "serving"
    volume.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", volume], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small volume cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(SpaceError, match="1 MB free"):
            release(ReleaseStore(volume, tmp_path / "releases", "taxi"), source)
        assert names(volume) == []
    finally:
        subprocess.run(["umount", volume], check=True)


def test_models_do_not_see_each_other(store, source):
    other = ReleaseStore(store.disk.serving, store.disk.releases.parent, "complaints")
    release(store, source)
    release(other, source, now=NOW + 50)
    assert (store.disk.released(), other.disk.released()) == ([NOW], [NOW + 50])


def test_an_unknown_version_names_those_there_are(store, source):
    release(store, source)
    with pytest.raises(ReleaseError, match=f"no version 5 .*{NOW}"):
        store.disk.record(5)


@pytest.mark.parametrize(
    ("why", "taken_back"), [("quarantined: bad", True), ("unverified: away", False), ("older than the 5 kept", False)]
)
def test_a_record_of_an_older_version_says_whether_it_was_taken_back_before_its_removal(tmp_path, why, taken_back):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    record = release(store, export(tmp_path / "model")).model_copy(update={"state": "removed", "why": why})
    older = record.model_dump(mode="json", exclude={"removed_from"})
    assert ReleaseRecord.parse(older, where="an older version").taken_back == taken_back


def test_a_version_that_was_taken_back_stays_so_when_it_is_removed(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    bad, *_ = [release(store, export(tmp_path / f"{n}", str(n)), f"run-{n}", NOW + n) for n in range(4)]
    store.quarantine(bad.version, "it is bad")
    store.retain(2)
    records = {record.version: record for record in store.disk.records()}
    assert (records[NOW].state, records[NOW].taken_back) == ("removed", True)
    assert (records[NOW + 1].state, records[NOW + 1].taken_back) == ("removed", False)
