"""Whoever comes after a release that was killed takes its unverified version out of sight."""

import os
import signal

import pytest

from nightly.cli.releases import main
from nightly.records.release import Rollback
from nightly.release.store import ReleaseStore
from nightly.serving.rollback import roll_back
from tests.support.deaths import died_at
from tests.support.releases import NOW, Server, export, loadable, release, verified


@pytest.fixture
def store(paths, tmp_path):
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    release(store, export(tmp_path / "old", "old", 1), "old", NOW - 100)
    return store


class Dying(Server):
    def verify(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)


def dead_release(store: ReleaseStore, source) -> None:
    assert died_at(10**9, lambda: verified(store, source, server=Dying(store)))
    assert store.disk.undecided() and loadable(store.disk.folder)[-1] == NOW


def rollback(tmp_path, version: int | None = None):
    request = Rollback(model="taxi", version=version, reason="r", requested_by="m")
    return request.save(tmp_path / "rollback.json")


def test_a_dead_release_is_settled_and_released_later_under_its_number(store, tmp_path):
    source = export(tmp_path / "new", "new", 1)
    dead_release(store, source)
    with store.disk.locked():
        assert store.settle(Server(store)) == [], "somebody has the lock: a release may be going on"
    (gone,) = store.settle(Server(store))
    assert gone.version == NOW and store.disk.record(NOW).state == "unverified" and not store.disk.undecided()
    assert loadable(store.disk.folder) == [NOW - 100] == store.disk.released()
    assert verified(store, source).version == NOW


def test_the_command_settles_what_a_dead_release_left(store, tmp_path, capsys):
    dead_release(store, export(tmp_path / "new", "new", 1))
    assert main(["list", "taxi"]) == 0
    out, err = capsys.readouterr()
    assert f"taxi {NOW} is out of sight: its release died" in err and "unverified" in out
    assert loadable(store.disk.folder) == [NOW - 100]


def test_a_rollback_leaves_what_was_never_verified_to_be_released_later(store, paths, tmp_path):
    release(store, export(tmp_path / "b", "b", 1), "run-b", NOW - 50)
    source = export(tmp_path / "new", "new", 1)
    dead_release(store, source)
    done = roll_back(paths, rollback(tmp_path))
    assert (done.version, done.withdrawn) == (NOW - 100, [NOW - 50])
    assert store.disk.record(NOW).state == "unverified" and verified(store, source).version == NOW


@pytest.mark.parametrize("killed", [False, True], ids=["at once", "by the retry of a rollback that was killed"])
def test_previous_is_resolved_again_when_a_release_came_between(store, paths, tmp_path, monkeypatch, killed):
    release(store, export(tmp_path / "b", "b", 1), "run-b", NOW)
    asked, original = rollback(tmp_path), ReleaseStore.roll_back

    def released_first(self, *given, **named):
        monkeypatch.setattr(ReleaseStore, "roll_back", original)
        release(store, export(tmp_path / "c", "c", 1), "run-c", NOW + 1)
        if killed:
            raise KeyboardInterrupt
        return original(self, *given, **named)

    monkeypatch.setattr(ReleaseStore, "roll_back", released_first)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            roll_back(paths, asked)
    assert roll_back(paths, asked).version == NOW
    assert store.disk.released() == [NOW - 100, NOW]
