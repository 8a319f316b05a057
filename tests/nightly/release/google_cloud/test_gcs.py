"""Releases in a bucket, against an emulator that is a real process and enforces preconditions."""

import getpass
import http.client
import itertools
import multiprocessing
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests.adapters
from google.api_core.exceptions import PreconditionFailed
from google.cloud import storage

import nightly.io.atomic
import nightly.io.files
import nightly.release.google_cloud.gcs
import nightly.release.google_cloud.pull
import nightly.release.volume
from nightly.canary import quarantine as quarantines
from nightly.cli import releases
from nightly.cli.pull import main
from nightly.records.release import Machine
from nightly.release.errors import (
    CollisionError,
    DamagedError,
    NotPublished,
    ReleaseError,
    ServerNotReached,
    SpaceError,
)
from nightly.release.google_cloud.gcs import GcsReleases, folder_name
from nightly.release.google_cloud.pull import pull
from nightly.release.repair import repair
from nightly.release.targets import publish, retire
from nightly.serving import rollback as rollbacks
from nightly.serving.confirmation import NOT_CONFIRMED
from tests.support.buckets import config, new_project
from tests.support.deaths import died_at
from tests.support.releases import FILES, NOW, ApprovingServer, loadable, names, watching, whole

pytestmark = pytest.mark.integration

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def published(bucket, project, monkeypatch):
    """A project with three published versions, whose commands use the bucket."""
    monkeypatch.setenv("NIGHTLY_SERVING", str(project.store.disk.serving))
    monkeypatch.setenv("NIGHTLY_RELEASES", str(project.store.disk.releases.parent))
    monkeypatch.setattr(rollbacks, "load_config", lambda name: config(bucket))
    for i in range(3):
        publish(config(bucket), project.store, project.release(i))
    return project


def blobs(bucket: str) -> list[storage.Blob]:
    return list(storage.Client().list_blobs(bucket.split("/")[2]))


def put(project, bucket: str, i: int, **how: object):
    """Release model `i` and publish it, as a night does."""
    record = project.release(i, **how)
    project.store.retain(2)
    return publish(config(bucket), project.store, record)


def test_the_emulator_enforces_preconditions(bucket):
    blob = storage.Client().bucket(bucket.split("/")[2]).blob("once")
    blob.upload_from_string("1", if_generation_match=0)
    for generation in (0, 1):
        with pytest.raises(PreconditionFailed):
            blob.upload_from_string("2", if_generation_match=generation)


def test_a_release_is_copied_named_in_the_index_and_recorded(bucket, project):
    record = put(project, bucket, 0)

    assert GcsReleases(bucket, "taxi").releases()[0].files == record.files
    assert record.details["gcs"]["uri"] == f"{bucket}/taxi/{folder_name(record)}"
    assert project.store.disk.record(NOW).details == record.details
    there = {blob.name.removeprefix("a/prefix/taxi/") for blob in blobs(bucket)}
    assert there == {"releases.json"} | {f"{folder_name(record)}/{name}" for name in record.files}


def test_no_name_in_the_bucket_is_a_version_to_a_model_server_that_polls_it(bucket, project):
    for i in range(3):
        put(project, bucket, i)
    parts = {part for blob in blobs(bucket) for part in blob.name.split("/")}
    assert not [part for part in parts if re.fullmatch(r"\s*[+-]?\d+\s*", part)]


def test_publishing_again_changes_nothing(bucket, project):
    record = put(project, bucket, 0)
    before = {(blob.name, blob.generation) for blob in blobs(bucket)}
    assert publish(config(bucket), project.store, record).details == record.details
    assert {(blob.name, blob.generation) for blob in blobs(bucket)} == before


def test_a_damaged_version_is_repaired_from_the_bucket_and_from_nothing_else_that_differs(bucket, project, tmp_path):
    record = put(project, bucket, 0)
    folder = project.store.disk.folder / str(record.version)
    paths = SimpleNamespace(
        serving=project.store.disk.serving, releases=project.store.disk.releases.parent, pipeline=tmp_path / "pipeline"
    )
    other = tmp_path / "pipeline/taxi/trainer" / FILES[0]
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another run")
    (folder / FILES[0]).write_bytes(b"half")

    repaired = repair(paths, config(bucket), record.version)

    assert repaired == {FILES[0]: f"{bucket}/taxi/{folder_name(record)}/{FILES[0]}"}
    assert project.store.disk.verify(record.version) and whole(folder)
    for blob in blobs(bucket):
        blob.delete()
    (folder / FILES[0]).unlink()
    with pytest.raises(DamagedError, match=rf"{FILES[0]} is missing.*no whole copy is in .* or {bucket}"):
        repair(paths, config(bucket), record.version)
    assert names(project.store.disk.folder) == [str(record.version)]


def cloned(project, folder: Path):
    """Another project that takes itself for the same machine, as a copied disk does."""
    other = new_project(folder)
    other.store.disk.releases.parent.mkdir(parents=True)
    shutil.copy(project.store.disk.releases.parent / Machine.FILE, other.store.disk.releases.parent / Machine.FILE)
    return other


def test_other_files_under_the_same_version_are_refused(bucket, project, tmp_path):
    mine, other = put(project, bucket, 0), cloned(project, tmp_path / "other")
    with pytest.raises(CollisionError, match=f"has a {NOW} with other files, of run run-0: two machines"):
        put(other, bucket, 0, seed="other-")
    assert [r.files for r in GcsReleases(bucket, "taxi").releases()] == [mine.files]


def test_an_older_release_of_another_machine_does_not_go_over_a_newer_one(bucket, project, tmp_path):
    put(project, bucket, 5)
    with pytest.raises(CollisionError, match=f"is at {NOW + 5}, of run run-5, which is newer"):
        put(cloned(project, tmp_path / "other"), bucket, 4, seed="other-")


def test_a_machine_that_is_not_the_owner_is_refused_whenever_it_releases_until_a_person_makes_it_the_owner(
    bucket, project, tmp_path, monkeypatch, capsys
):
    mine = put(project, bucket, 0)
    other = new_project(tmp_path / "other")
    for i in (3, 4):
        with pytest.raises(CollisionError, match=r"belongs to .* two machines must not .*bin/releases own taxi"):
            put(other, bucket, i, seed="other-")
    other.store.roll_back(NOW + 3, "worse")
    retire(config(bucket), other.store)  # nor does it take away what is not its own
    assert [r.files for r in GcsReleases(bucket, "taxi").releases()] == [mine.files]
    assert pull(GcsReleases(bucket, "taxi"), tmp_path / "volume").files == mine.files

    monkeypatch.setenv("NIGHTLY_SERVING", str(other.store.disk.serving))
    monkeypatch.setenv("NIGHTLY_RELEASES", str(other.store.disk.releases.parent))
    monkeypatch.setattr(releases, "load_config", lambda name: config(bucket))
    assert releases.main(["own", "taxi", "--reason", "the old machine is gone"]) == 0
    assert "from now on" in capsys.readouterr().out
    assert put(other, bucket, 5, seed="other-").details
    with pytest.raises(CollisionError, match="two machines"):
        put(project, bucket, 6)
    owners = GcsReleases(bucket, "taxi")._index()[0].owners
    assert [(o.by, o.reason) for o in owners][1:] == [(getpass.getuser(), "the old machine is gone")]
    assert owners[0].by == "its first release" and len({o.machine.id for o in owners}) == 2


def test_an_index_of_an_older_version_belongs_to_the_machine_whose_releases_it_has(bucket, project, tmp_path):
    record = project.release(0)
    GcsReleases(bucket, "taxi").publish(record, project.store.disk.find(record.version))
    assert GcsReleases(bucket, "taxi")._index()[0].owners == []
    with pytest.raises(CollisionError, match=f"it has {NOW}, of run run-0, unknown here"):
        put(new_project(tmp_path / "other"), bucket, 1, seed="other-")
    put(project, bucket, 2)
    assert len(GcsReleases(bucket, "taxi")._index()[0].owners) == 1


def test_a_release_that_another_overtakes_is_refused_by_the_precondition(bucket, project, tmp_path, monkeypatch):
    overtaking = project.release(1)
    slow = new_project(tmp_path / "other")
    record = slow.release(2, seed="other-")
    upload = GcsReleases._upload

    def overtaken(self: GcsReleases, *args: object) -> None:
        monkeypatch.setattr(GcsReleases, "_upload", upload)
        publish(config(bucket), project.store, overtaking)
        upload(self, *args)

    monkeypatch.setattr(GcsReleases, "_upload", overtaken)
    with pytest.raises(CollisionError, match=f"changed by somebody else in the meantime.*at {NOW + 1}, of run run-1"):
        publish(config(bucket), slow.store, record)
    with pytest.raises(CollisionError, match="two machines"):
        publish(config(bucket), slow.store, record)
    assert [r.version for r in GcsReleases(bucket, "taxi").releases()] == [NOW + 1]


def test_of_many_machines_that_release_under_one_version_exactly_one_wins(bucket, tmp_path):
    machines = [new_project(tmp_path / str(i)) for i in range(5)]
    records = [machine.release(0, seed=f"{i}-") for i, machine in enumerate(machines)]
    answers = FORK.Queue()

    def run(i: int) -> None:
        try:
            publish(config(bucket), machines[i].store, records[i])
            answers.put((i, ""))
        except CollisionError as error:
            answers.put((i, str(error)))

    processes = [FORK.Process(target=run, args=(i,)) for i in range(5)]
    for process in processes:
        process.start()
    said = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    (winner,) = [i for i, error in said.items() if not error]
    refusals = ("two machines", "in the meantime")
    assert all(any(part in error for part in refusals) for i, error in said.items() if i != winner)
    assert pull(GcsReleases(bucket, "taxi"), tmp_path / "volume").files == records[winner].files


@pytest.mark.slow
def test_an_upload_killed_anywhere_is_invisible_and_its_retry_completes_it(bucket, project, tmp_path):
    files = {sys.modules[module].__file__ for module in ("google.cloud.storage.blob", "urllib3.connection")}
    files |= {nightly.release.google_cloud.gcs.__file__, http.client.__file__, requests.adapters.__file__}
    first, record = put(project, bucket, 0), project.release(1, kilobytes=256)
    killed = invisible = 0
    for step in range(0, 10**6, 97):
        place = f"{bucket}/{step}"

        def work(place: str = place) -> None:
            GcsReleases(place, "taxi").publish(record, project.store.disk.find(record.version))

        GcsReleases(place, "taxi").publish(first, project.store.disk.find(first.version))
        if not died_at(step, work, files):
            break
        killed += 1
        there = GcsReleases(place, "taxi").releases()
        invisible += len(there) == 1
        assert pull(GcsReleases(place, "taxi"), tmp_path / f"{step}").version == there[-1].version
        assert whole(tmp_path / f"{step}/taxi/{there[-1].version}")

        work()
        assert [r.version for r in GcsReleases(place, "taxi").releases()] == [NOW, NOW + 1]
        assert pull(GcsReleases(place, "taxi"), tmp_path / f"{step}").version == NOW + 1
    assert killed > 20 and invisible > 15


@pytest.mark.slow
def test_a_pull_killed_anywhere_leaves_whole_versions_and_a_retry_completes_it(bucket, project, tmp_path):
    files = {nightly.release.google_cloud.pull.__file__} | {
        module.__file__ for module in (nightly.release.volume, nightly.io.files, nightly.io.atomic, shutil)
    }
    killed = 0
    for step in itertools.count():
        volume, prefix = tmp_path / f"{step}", f"{bucket}/{step}"
        gcs = GcsReleases(prefix, "taxi")
        for version in (0, 1):
            gcs.publish(project.release(version), project.store.disk.find(NOW + version))
            if version == 0:
                pull(gcs, volume)
        gcs.retire([project.store.disk.record(NOW).model_copy(update={"state": "quarantined"})])

        def work(prefix=prefix, volume=volume):  # a client cannot be pickled, so the child makes its own
            pull(GcsReleases(prefix, "taxi"), volume)

        if not died_at(step, work, files, volume):
            break
        killed += 1
        there = loadable(volume / "taxi")
        assert there and all(whole(volume / f"taxi/{version}") for version in there)
        pull(gcs, volume)
        assert loadable(volume / "taxi") == [NOW + 1] and names(volume / ".pulled/taxi") == [".lock", f"{NOW + 1}.json"]
    assert killed > 15


def test_a_retry_takes_what_is_there_and_refuses_what_is_not_ours(bucket, project):
    record = project.release(0)
    gcs = GcsReleases(bucket, "taxi")
    name = f"a/prefix/taxi/{folder_name(record)}/saved_model.pb"
    storage.Client().bucket(bucket.split("/")[2]).blob(name).upload_from_string(b"not ours")
    with pytest.raises(DamagedError, match=r"saved_model\.pb is not .*Delete that object"):
        publish(config(bucket), project.store, record)
    assert gcs.releases() == []
    storage.Client().bucket(bucket.split("/")[2]).blob(name).delete()
    assert publish(config(bucket), project.store, record).details


def test_retention_keeps_the_current_version_and_its_predecessor_and_sweeps_what_killed_uploads_left(bucket, project):
    gcs = GcsReleases(bucket, "taxi")
    for i in range(4):
        put(project, bucket, i)
    assert [r.version for r in gcs.releases()] == [NOW + 2, NOW + 3]

    everything_old = [r.model_copy(update={"state": "removed"}) for r in project.store.disk.records()]
    assert gcs.retire(everything_old) == []
    litter = storage.Client().bucket(bucket.split("/")[2])
    for folder in (f"{NOW + 1}-abc", f"{NOW + 9}-abc", "notes"):
        litter.blob(f"a/prefix/taxi/{folder}/saved_model.pb").upload_from_string("?")
    put(project, bucket, 4)
    folders = {blob.name.split("/")[3] for blob in blobs(bucket)} - {"releases.json"}
    kept = {folder_name(r) for r in gcs.releases()}
    assert folders == kept | {f"{NOW + 9}-abc", "notes"}  # one that is going on, and what is none of ours


def test_a_rollback_goes_to_the_bucket_and_from_there_to_the_serving_machine(bucket, project, tmp_path):
    gcs = GcsReleases(bucket, "taxi")
    for i in range(2):
        put(project, bucket, i)
        pull(gcs, tmp_path / "volume")
    project.store.roll_back(NOW, "worse")
    retire(config(bucket), project.store)

    assert [r.version for r in gcs.releases()] == [NOW]
    assert pull(gcs, tmp_path / "volume").version == NOW
    assert loadable(tmp_path / "volume/taxi") == [NOW]
    assert publish(config(bucket), project.store, project.store.disk.record(NOW + 1)).state == "quarantined"
    assert [r.version for r in gcs.releases()] == [NOW]


@pytest.mark.slow
def test_a_server_on_the_volume_that_is_pulled_into_never_sees_a_half_version_or_none(bucket, project, tmp_path):
    gcs, volume = GcsReleases(bucket, "taxi"), tmp_path / "volume"
    with watching(volume / "taxi") as saw:
        for i in range(8):
            put(project, bucket, i, kilobytes=128)
            pull(gcs, volume)
    seen, broken, emptied, backwards, _ = saw
    assert (seen, broken, emptied, backwards) == (list(range(NOW, NOW + 8)), [], 0, 0)
    assert loadable(volume / "taxi") == [NOW + 6, NOW + 7]
    assert names(volume / ".pulled/taxi") == [".lock", f"{NOW + 6}.json", f"{NOW + 7}.json"]


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_corrupted_object_is_found_and_what_is_served_stays(bucket, project, tmp_path, how):
    gcs = GcsReleases(bucket, "taxi")
    put(project, bucket, 0)
    pull(gcs, tmp_path / "volume")
    record = put(project, bucket, 1)
    name = f"a/prefix/taxi/{folder_name(record)}/variables/variables.index"
    blob = storage.Client().bucket(bucket.split("/")[2]).blob(name)
    blob.delete() if how == "missing" else blob.upload_from_string(b"flipped")
    with pytest.raises(DamagedError, match=r"variables\.index"):
        pull(gcs, tmp_path / "volume")
    assert loadable(tmp_path / "volume/taxi") == [NOW]


def test_a_volume_without_room_for_a_version_is_said_before_the_download(bucket, project, small_disk):
    publish(config(bucket), project.store, project.release(0, 4096))
    with pytest.raises(SpaceError, match=rf"has 80 MB free, and pulling taxi {NOW} needs 96 MB"):
        pull(GcsReleases(bucket, "taxi"), small_disk)
    assert not loadable(small_disk / "taxi")


def test_the_puller_refuses_versions_that_it_did_not_bring_and_a_copy_that_was_changed(bucket, project, tmp_path):
    put(project, bucket, 0)
    with pytest.raises(ReleaseError, match="which did not come from"):
        pull(GcsReleases(bucket, "taxi"), project.store.disk.serving)
    assert project.store.disk.released() == [NOW]
    pull(GcsReleases(bucket, "taxi"), tmp_path / "volume")
    (tmp_path / "volume/taxi" / str(NOW) / "saved_model.pb").write_bytes(b"flipped")
    with pytest.raises(DamagedError, match="delete it, and it is pulled again"):
        pull(GcsReleases(bucket, "taxi"), tmp_path / "volume")


def test_the_command_pulls_and_says_what_is_wrong(bucket, project, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    arguments = ["taxi", "--gcs", bucket, "--into", str(tmp_path / "volume")]
    assert main(arguments) == 2 and f"nothing is released at {bucket}/taxi" in capsys.readouterr().err
    put(project, bucket, 0)
    assert main(arguments) == 0 and f"taxi is at {NOW}" in caplog.text
    assert loadable(tmp_path / "volume/taxi") == [NOW]


def test_a_bucket_that_is_not_there_fails_the_step_and_leaves_the_release(emulator, project):
    record = project.release(0)
    with pytest.raises(NotPublished, match=r"gs://nowhere-at-all/taxi: .*The release in the serving volume stands"):
        publish(config("gs://nowhere-at-all"), project.store, record)
    assert project.store.disk.production() == NOW and project.store.disk.record(NOW).details == {}


def test_without_a_configuration_nothing_is_published(project):
    record = project.release(0)
    assert publish(config(""), project.store, record) is record
    retire(config(""), project.store)
    assert Path(record.path).is_dir()


def test_a_rollback_that_the_bucket_does_not_hear_of_names_the_version_for_its_retry(
    bucket, published, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        patch.setattr(rollbacks, "load_config", lambda name: config("gs://nowhere-at-all"))
        assert releases.main(["rollback", "taxi", "previous", "--reason", "worse"]) == NOT_CONFIRMED
    error = capsys.readouterr().err
    assert f"taxi is rolled back to {NOW + 1}, and gs://nowhere-at-all is not updated: 404" in error
    assert f"run bin/releases rollback taxi {NOW + 1} --reason" in error
    assert [record.version for record in GcsReleases(bucket, "taxi").releases()] == [NOW, NOW + 1, NOW + 2]

    releases.main(["rollback", "taxi", str(NOW + 1), "--reason", "worse"])
    assert published.store.disk.production() == NOW + 1
    assert [record.version for record in GcsReleases(bucket, "taxi").releases()] == [NOW, NOW + 1]


def test_a_machine_does_not_become_the_owner_of_a_bucket_that_is_away(published, monkeypatch, capsys):
    monkeypatch.setattr(releases, "load_config", lambda name: config("gs://nowhere-at-all"))
    assert releases.main(["own", "taxi", "--reason", "the old machine is gone"]) == 2
    assert "gs://nowhere-at-all gets no other owner: 404" in capsys.readouterr().err


class AwayServer(ApprovingServer):
    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        raise ServerNotReached("the model server does not answer")

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        pass


def test_a_quarantined_version_leaves_the_bucket_although_the_server_does_not_answer(bucket, published, monkeypatch):
    monkeypatch.setattr(quarantines, "load_config", lambda name: config(bucket))
    monkeypatch.setattr(quarantines, "find_server", lambda *_: AwayServer())
    assert releases.main(["quarantine", "taxi", str(NOW + 1), "--reason", "damaged"]) == NOT_CONFIRMED
    assert [record.version for record in GcsReleases(bucket, "taxi").releases()] == [NOW, NOW + 2]


def test_a_damaged_object_in_the_bucket_does_not_stop_the_repair_of_another_file(bucket, published, tmp_path):
    store, (damaged, lost) = published.store, FILES[:2]
    record = store.disk.record(NOW)
    name = f"a/prefix/taxi/{folder_name(record)}/{damaged}"
    storage.Client().bucket(bucket.split("/")[2]).blob(name).upload_from_string(b"flipped")
    (store.disk.path(NOW) / lost).unlink()
    paths = SimpleNamespace(
        serving=store.disk.serving, releases=store.disk.releases.parent, pipeline=tmp_path / "pipeline"
    )
    assert repair(paths, config(bucket), NOW) == {lost: f"{bucket}/taxi/{folder_name(record)}/{lost}"}
    assert store.disk.verify(NOW) == record
