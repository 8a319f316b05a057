"""Releases of hosts that share a bucket: each sees what the others have done, and none undoes it."""

import os
import shutil
from pathlib import Path

import pytest

from nightly.cli.state import main as copy
from nightly.io.files import hash_files
from nightly.models import load_config
from nightly.release.errors import (
    CanaryRunning,
    DamagedError,
    NotVerifiedYet,
    ReleaseError,
    ServerNotReached,
    WithdrawnError,
)
from nightly.release.find import store_of
from nightly.release.machine import this_machine
from nightly.release.repair import repair
from nightly.release.store import ReleaseStore
from nightly.serving.agreement import disagreements
from nightly.serving.models_config import LiveConfig, config_folder
from nightly.serving.server import find_server
from nightly.state import current
from nightly.state.errors import ChangedElsewhereError, StateNotReachedError
from tests.support.postgresql import break_locks
from tests.support.releases import NOW, Server, export, release, verified
from tests.support.shared_releases import SharedReleases, in_processes


def test_a_release_of_one_host_is_in_production_on_another_with_its_files(hosts, source):
    with hosts.store("a") as store:
        record = release(store, source)
        assert (record.version, record.state) == (NOW, "released") and store.disk.production() == NOW
    with hosts.store("b") as store:
        assert store.disk.production() == NOW and store.disk.loadable() == [NOW]
        assert store.disk.record(NOW) == record
        assert not store.disk.path(NOW).exists(), "files come when they are needed"
        assert hash_files(store.disk.find(NOW)) == store.disk.verify(NOW).files == record.files


def test_a_release_is_visible_at_once_and_not_only_when_the_step_ends(hosts, source):
    with hosts.session("a") as paths:
        release(ReleaseStore(paths.serving, paths.releases, "taxi"), source)
        keys = [entry.key for entry in current().objects.list("records/releases/taxi")]
        assert keys == [f"records/releases/taxi/{NOW}.json"]


def test_a_retry_on_another_host_gives_the_same_record_and_no_second_version(hosts, source):
    with hosts.store("a") as store:
        first = release(store, source)
    with hosts.store("b") as store:
        assert release(store, source, now=NOW + 9) == first
        assert [record.version for record in store.disk.records()] == [NOW]


def test_versions_grow_over_all_hosts_whatever_their_clocks_say(hosts, source):
    for number, host in enumerate("abcab"):
        with hosts.store(host) as store:
            record = release(store, source, f"run-{number}", NOW - 1000 * number)
            assert record.version == NOW + number


def test_a_rollback_of_one_host_holds_on_all(hosts, source, tmp_path):
    with hosts.store("a") as store:
        release(store, source)
    with hosts.store("b") as store:
        release(store, export(tmp_path / "other", "b"), "run-2", NOW + 5)
    with hosts.store("a") as store:
        assert store.roll_back(NOW, "worse") == [NOW + 5]
    with hosts.store("b") as store:
        assert store.disk.production() == NOW and store.disk.record(NOW + 5).state == "quarantined"
        with pytest.raises(WithdrawnError):
            release(store, tmp_path / "other", "run-2", NOW + 9)
        assert hash_files(store.disk.find(NOW + 5)) == store.disk.record(NOW + 5).files, "kept for inspection"
    with hosts.store("c") as store, pytest.raises(ReleaseError, match=r"quarantined \(worse\)"):
        store.roll_back(NOW + 5, "no")


def test_a_session_that_began_before_a_rollback_does_not_undo_it(hosts, source, tmp_path):
    with hosts.store("a") as store:
        release(store, source)
        release(store, export(tmp_path / "other", "b"), "run-2", NOW + 5)
    with hosts.store("a") as early:
        in_processes(_roll_back, (hosts, "b"))  # another host acts while this session is open
        third = release(early, export(tmp_path / "third", "c"), "run-3", NOW + 9)
        assert third.previous_version == NOW
    with hosts.store("b") as store:
        assert [record.state for record in store.disk.records()] == ["released", "quarantined", "released"]


def test_a_host_that_has_lost_the_lock_changes_no_record(hosts, source):
    with hosts.store("a") as store:
        record = release(store, source)
        for change in (lambda: store.transitions.withdraw(record, "worse"), lambda: None):
            with pytest.raises(StateNotReachedError, match="was lost"), store.disk.locked():
                break_locks(os.environ["NIGHTLY_METADATA_DB"])
                change()
    with hosts.store("b") as store:
        assert store.disk.record(NOW) == record


def test_a_repair_leaves_the_version_published_whenever_it_dies(hosts, source, monkeypatch):
    with hosts.store("a") as store:
        record = release(store, source)
        name = next(iter(record.files))
        folder = store.disk.path(NOW)
        (folder / name).unlink()
        (folder / "empty").mkdir()  # so its manifest is another
        monkeypatch.setattr(current().objects, "delete", lambda key: pytest.fail(f"{key} is away for a while"))
        with store.disk.locked():
            store.transitions.replace_files(record, {name: source / name})
    with hosts.store("b") as store:
        assert hash_files(store.disk.find(NOW)) == record.files
        assert (store.disk.find(NOW) / "empty").is_dir()


def _roll_back(hosts: SharedReleases, host: str) -> None:
    with hosts.store(host) as store:
        store.roll_back(NOW, "worse")


def test_a_canary_is_compared_promoted_and_stopped_on_any_host(hosts, source, tmp_path):
    with hosts.store("a") as store:
        server = Server(store)
    server.stable, server.canary = tmp_path / "stable", tmp_path / "canary"
    with hosts.store("a") as store:
        verified(store, source, server=server)
    with hosts.store("b") as store:
        canary = verified(store, export(tmp_path / "2", "2"), "run-2", share=0.1, server=server)
        assert canary.state == "canary" and server.canary.read_text() == str(canary.version)
    with hosts.store("c") as store:
        with pytest.raises(CanaryRunning):
            verified(store, export(tmp_path / "3", "3"), "run-3", server=server)
        store.promote(canary.version, server=server)
    with hosts.store("a") as store:
        assert store.disk.production() == canary.version and store.disk.canary() is None
        stopped = verified(store, export(tmp_path / "4", "4"), "run-4", share=0.1, server=server)
    with hosts.store("b") as store:
        store.stop(stopped.version, "worse", server=server)
        assert store.disk.production() == canary.version and store.disk.record(stopped.version).state == "quarantined"


def test_retention_deletes_files_for_all_hosts_and_keeps_the_records(hosts, tmp_path):
    for number in range(4):
        with hosts.store("ab"[number % 2]) as store:
            release(store, export(tmp_path / f"e{number}", str(number)), f"run-{number}", NOW + number)
            store.retain(2)
    with hosts.store("b") as store:
        assert [record.state for record in store.disk.records()] == ["removed"] * 2 + ["released"] * 2
        names = [entry.key for entry in current().objects.list("manifests/serving/taxi")]
        assert names == [f"manifests/serving/taxi/{NOW + 2}.json", f"manifests/serving/taxi/{NOW + 3}.json"]
        with pytest.raises(ReleaseError, match=r"files of taxi \d+ are gone"):
            store.disk.find(NOW)


def test_a_damaged_copy_of_a_host_is_replaced_from_the_bucket(hosts, source):
    with hosts.store("a") as store:
        release(store, source)
    with hosts.store("b") as store:
        (store.disk.find(NOW) / "saved_model.pb").write_bytes(b"flipped")
        assert hash_files(store.disk.find(NOW)) == store.disk.verify(NOW).files


def test_a_lost_blob_is_damage_and_is_repaired_from_an_artifact(hosts, source, tmp_path):
    with hosts.store("a") as store:
        record = release(store, source)
        lost = record.files["variables/variables.index"]
        current().objects.delete(f"blobs/{lost}")
    with hosts.session("b") as paths:
        store = ReleaseStore(paths.serving, paths.releases, "taxi")
        with pytest.raises(DamagedError, match=r"variables\.index is missing.*bin/releases repair"):
            store.disk.verify(NOW)
        with pytest.raises(DamagedError, match="no whole copy"):
            repair(paths, load_config("taxi"), NOW)
        shutil.copytree(source, paths.pipeline / "taxi/trainer/model/7/Format-Serving")
        assert set(repair(paths, load_config("taxi"), NOW)) >= {"variables/variables.index"}
    with hosts.store("c") as store:
        assert store.disk.verify(NOW) == record


def test_hosts_that_lost_the_lock_do_not_overwrite_each_other(hosts, source):
    """PostgreSQL may be restarted while a host holds the lock: the record's compare-and-swap remains."""
    with hosts.store("a") as store:
        record = release(store, source)
    with pytest.raises(ChangedElsewhereError), hosts.store("a") as store:
        objects = current().objects
        key = f"records/releases/taxi/{NOW}.json"
        there = objects.get(key)
        objects.swap(key, there.data + b"\n", there.etag)
        store.transitions.withdraw(record, "late")
    with hosts.store("b") as store:
        assert store.disk.record(NOW).state == "released"


def test_all_hosts_of_a_bucket_are_one_machine(hosts):
    with hosts.session("a") as paths:
        machine = this_machine(paths.releases)
    with hosts.session("b") as paths:
        assert this_machine(paths.releases) == machine


def test_hosts_that_release_at_the_same_time_wait_for_each_other(hosts, tmp_path):
    sources = [export(tmp_path / f"export-{number}", str(number)) for number in range(4)]
    in_processes(_release, *((hosts, number, each) for number, each in enumerate(sources)))
    with hosts.store("a") as store:
        records = store.disk.records()
        assert [record.version for record in records] == [NOW, NOW + 1, NOW + 2, NOW + 3]
        assert [record.previous_version for record in records] == [None, NOW, NOW + 1, NOW + 2]


def _release(hosts: SharedReleases, number: int, source: Path) -> None:
    with hosts.store(f"host-{number}") as store:
        release(store, source, f"run-{number}")


@pytest.mark.slow
def test_a_state_that_is_copied_to_a_bucket_and_back_serves_the_same_versions(hosts, tmp_path):
    folder = ReleaseStore(tmp_path / "var/serving", tmp_path / "var/releases", "taxi")
    for number in range(3):
        release(folder, export(tmp_path / f"export-{number}", str(number)), f"run-{number}", NOW + number)
    folder.roll_back(NOW + 1, "worse")
    assert copy(["copy", str(tmp_path / "var"), hosts.address]) == 0
    with hosts.store("a") as store:
        assert store.disk.released() == [NOW, NOW + 1]
        assert hash_files(store.disk.find(NOW + 2)) == store.disk.record(NOW + 2).files
        release(store, export(tmp_path / "export-3", "3"), "run-3", NOW + 3)
        store.quarantine(NOW + 3, "bad")
    assert copy(["copy", hosts.address, str(tmp_path / "back")]) == 0
    back = ReleaseStore(tmp_path / "back/serving", tmp_path / "back/releases", "taxi")
    assert back.disk.released() == back.disk.loadable() == [NOW, NOW + 1]
    assert {f"quarantined-{NOW + number}" for number in (2, 3)} <= {*back.disk.names()}


def test_what_removals_that_died_have_left_is_deleted_whichever_versions_they_are(hosts, tmp_path):
    with hosts.store("a") as store:
        for number in range(4):
            release(store, export(tmp_path / f"e{number}", str(number)), f"run-{number}", NOW + number)
        current().publish(export(store.disk.aside("quarantined", NOW), "aside"))  # as copied from a folder
        with store.disk.locked():
            for version in (NOW, NOW + 1):  # each process died before it deleted the files
                store.transitions.save(store.disk.record(version), state="removed")
    with hosts.store("b") as store:
        store.retain(2)
        keys = [entry.key for entry in current().objects.list("manifests/serving/taxi")]
        assert keys == [f"manifests/serving/taxi/{NOW + 2}.json", f"manifests/serving/taxi/{NOW + 3}.json"]


class Away(Server):
    def verify(self, record, previous):
        raise ServerNotReached("the model server does not answer")


def test_an_unverified_version_is_said_to_be_in_no_folder(hosts, source):
    with hosts.store("a") as store:
        with pytest.raises(NotVerifiedYet, match=rf"{NOW} could not be verified, and is out of sight: the model"):
            verified(store, source, server=Away(store))
        assert store.disk.record(NOW).state == "unverified"


def test_a_name_without_releases_is_refused(hosts, source):
    with hosts.store("a") as store:
        release(store, source)
    with hosts.session("b", "taxy") as paths, pytest.raises(ReleaseError, match="nothing was released for 'taxy'"):
        store_of(paths, "taxy")
    with hosts.session("b", "taxi") as paths:
        assert store_of(paths, "taxi").disk.production() == NOW


def test_an_unreadable_models_config_is_named_by_its_object_and_written_again_by_serve(hosts, source):
    with hosts.session("a") as paths:
        release(ReleaseStore(paths.serving, paths.releases, "taxi"), source)
        LiveConfig(config_folder(paths), "/models").replace("model_config_list {")
    with hosts.session("b") as paths:
        [wrong] = disagreements(paths, ReleaseStore(paths.serving, paths.releases, "taxi"))
        assert wrong.what.startswith("records/releases/_all/models.config cannot be read")
        assert wrong.action == (
            "delete records/releases/_all/models.config, then bin/releases serve MODEL for each model"
        )
        current().objects.delete("records/releases/_all/models.config")
    with hosts.session("b") as paths:
        store = ReleaseStore(paths.serving, paths.releases, "taxi")
        store.serve(server=find_server(paths, "taxi", load_config("taxi").release))
    with hosts.session("a") as paths:
        assert disagreements(paths, ReleaseStore(paths.serving, paths.releases, "taxi")) == []
