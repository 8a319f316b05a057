"""Whoever comes after a release that was killed takes its unverified version out of sight."""

import pytest

from include.contracts.release import Rollback
from include.release.rollback import roll_back
from include.release.store import ReleaseStore
from tests.include.release.models import NOW, export, loadable, release
from tests.include.release.test_crashes import Server, died_at, verified


@pytest.fixture
def store(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    release(store, export(tmp_path / "old", "old", 1), "old", NOW - 100)
    return store


def test_a_dead_release_is_settled_and_released_later_under_its_number(store, tmp_path):
    source = export(tmp_path / "new", "new", 1)

    def dying(self, record, previous):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        Server.verify = dying
        verified(store, source)

    assert died_at(10**9, work)
    assert store.undecided() and loadable(store.folder) == [NOW - 100, NOW]
    with store.locked():
        assert store.settle(Server(store)) == [], "somebody has the lock: a release may be going on"
    (gone,) = store.settle(Server(store))
    assert gone.version == NOW and store.record(NOW).state == "unverified" and not store.undecided()
    assert loadable(store.folder) == [NOW - 100] == store.versions()
    assert verified(store, source).version == NOW


def test_previous_is_resolved_again_when_a_release_came_between(store, tmp_path, monkeypatch):
    from include.contracts.places import Places

    release(store, export(tmp_path / "b", "b", 1), "run-b", NOW)
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    for name in ("REST", "GRPC"):
        monkeypatch.delenv(f"NIGHTLY_SERVING_{name}", raising=False)
    places, original = Places.from_environment(), ReleaseStore.roll_back

    def released_first(self, *given, **named):
        monkeypatch.setattr(ReleaseStore, "roll_back", original)
        release(store, export(tmp_path / "c", "c", 1), "run-c", NOW + 1)
        return original(self, *given, **named)

    monkeypatch.setattr(ReleaseStore, "roll_back", released_first)
    asked = Rollback(model="taxi", version=None, reason="r", requested_by="m").save(tmp_path / "rollback.json")
    assert roll_back(places, asked).version == NOW
    assert store.versions() == [NOW - 100, NOW]
