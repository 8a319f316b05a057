"""What a night does if damaged production cannot be repaired: a retry, or no baseline."""

import errno
import shutil

import pytest

from nightly.models import load_config
from nightly.records.night import Night
from nightly.release.errors import DamagedError, NotPublished, ReleaseError
from nightly.release.store import ReleaseStore
from nightly.tfx import production
from tests.support.nights import a_night
from tests.support.releases import FILES, export, release


@pytest.fixture
def damaged(paths, tmp_path, monkeypatch):
    """The folder of a night whose production is damaged. The model is released to a bucket, too."""
    config = load_config("taxi")
    in_bucket = config.release.model_copy(update={"gcs": "gs://bucket"})
    monkeypatch.setattr(production, "config_of", lambda night: config.model_copy(update={"release": in_bucket}))
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    record = release(store, export(tmp_path / "export"))
    (store.disk.find(record.version) / FILES[0]).write_bytes(b"half")
    night = a_night(production_version=record.version)
    night.save(night.folder(paths) / "request.json")
    return night.folder(paths)


def test_a_bucket_that_is_not_reached_fails_the_task_and_leaves_the_baseline(damaged, paths, monkeypatch):
    before = Night.load(damaged / "request.json")
    monkeypatch.setattr("nightly.release.repair._download", raiser(NotPublished("gs://bucket: 503")))
    with pytest.raises(ReleaseError, match=r"gs://bucket does not say whether it has a copy: .*503") as error:
        production.prepare(damaged, paths)
    assert error.value.retry and Night.load(damaged / "request.json") == before


def test_a_disk_that_is_full_during_the_repair_fails_the_task_and_leaves_the_baseline(
    damaged, paths, tmp_path, monkeypatch
):
    before = Night.load(damaged / "request.json")
    shutil.copytree(tmp_path / "export", paths.pipeline / "taxi/trainer/model/7")
    full = raiser(OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch, pytest.raises(ReleaseError, match=r"could not be repaired.*No space left"):
        patch.setattr("nightly.release.transitions.copy_file", full)
        production.prepare(damaged, paths)
    assert Night.load(damaged / "request.json") == before
    production.prepare(damaged, paths)
    night = Night.load(damaged / "request.json")
    assert night.production_version == before.production_version and "is repaired" in night.damage


def test_a_bucket_whose_copy_is_damaged_too_leaves_no_baseline(damaged, paths, monkeypatch):
    before = Night.load(damaged / "request.json")
    monkeypatch.setattr("nightly.release.repair._download", raiser(DamagedError("it differs")))
    production.prepare(damaged, paths)
    night = Night.load(damaged / "request.json")
    assert (night.production_version, night.damaged_version) == (None, before.production_version)
    assert "or gs://bucket (it differs)" in night.damage


@pytest.mark.parametrize("what", ["gone", "a link"])
def test_production_without_files_or_with_a_link_is_no_baseline(damaged, paths, what):
    folder = paths.serving / "taxi" / str(Night.load(damaged / "request.json").production_version)
    if what == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "link").symlink_to(folder / FILES[1])
    production.prepare(damaged, paths)
    assert Night.load(damaged / "request.json").damaged_version


def raiser(error):
    def raise_it(*_args, **_kwargs):
        raise error

    return raise_it
