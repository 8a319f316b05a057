"""A host dies at a line of a release, a rollback or a retention, and another host goes on."""

from pathlib import Path

import pytest

from nightly.io.files import hash_files
from nightly.release import shared, store, transitions
from nightly.state import content, obstore_objects
from tests.support.deaths import died_at
from tests.support.releases import NOW, Server, export, release, verified
from tests.support.shared_releases import SharedReleases

pytestmark = pytest.mark.slow

LINES = {module.__file__ for module in (shared, store, transitions, content, obstore_objects)}
EVERY = 11  # lines between two deaths: each costs a process that connects to the bucket and the database


def check(hosts: SharedReleases, host: str, before: list[int]) -> list[int]:
    """Return the versions in production after a death, as another host sees them once it has settled."""
    with hosts.store(host) as others:
        others.settle(None)
        records = others.disk.records()
        assert not [record for record in records if record.state in ("releasing", "verifying")]
        released = others.disk.released()
        assert {*before} <= {*released}, "what was in production is lost"
        for record in records:
            if record.state != "removed":
                assert hash_files(others.disk.find(record.version)) == record.files, "a version is not whole"
        return released


def deaths(hosts: SharedReleases, prepare, work, every: int = EVERY):
    """Yield the bucket after each death of `work` on host a; each in a bucket prefix of its own."""
    for step in range(0, 10**6, every):
        fresh = SharedReleases(f"{hosts.address}/{step}", hosts.folder / str(step))
        prepare(fresh)
        if not died_at(step, lambda fresh=fresh: work(fresh), LINES):
            assert step > 5 * every
            return
        yield fresh


def test_a_release_that_dies_anywhere_is_there_as_a_whole_or_not_at_all_and_its_retry_is_the_same(hosts, tmp_path):
    old, new = export(tmp_path / "old", "old", 1), export(tmp_path / "new", "new", 1)

    def prepare(fresh: SharedReleases) -> None:
        with fresh.store("b") as store_of_b:
            release(store_of_b, old, "run-1")

    def work(fresh: SharedReleases) -> None:
        with fresh.store("a") as store_of_a:
            release(store_of_a, new, "run-2", NOW + 5)

    outcomes = set()
    for fresh in deaths(hosts, prepare, work):
        released = check(fresh, "b", [NOW])
        outcomes.add(len(released))
        with fresh.store("c") as retry:
            record = release(retry, new, "run-2", NOW + 9)
            assert retry.disk.released() == [NOW, record.version], "a retry made a second version"
            assert record.version == (released[1] if len(released) > 1 else NOW + 9)
    assert outcomes == {1, 2}


def test_a_release_that_dies_while_the_server_verifies_is_unverified_and_its_retry_releases_it(hosts, tmp_path):
    new = export(tmp_path / "new", "new", 1)

    class Dying(Server):
        def verify(self, record, previous):
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        with hosts.store("a") as store_of_a:
            server = Dying(store_of_a)
            server.stable, server.canary = tmp_path / "stable", tmp_path / "canary"
            verified(store_of_a, new, "run-1", server=server)

    assert died_at(10**9, work, set())
    with hosts.store("b") as others:
        assert others.disk.production() is None and others.disk.undecided()
        (unfinished,) = others.settle(None)
        assert others.disk.record(unfinished.version).state == "unverified" and others.disk.loadable() == []
    with hosts.store("c") as retry:
        server = Server(retry)
        server.stable, server.canary = tmp_path / "stable", tmp_path / "canary"
        again = verified(retry, new, "run-1", server=server)
        assert (again.version, again.state) == (unfinished.version, "released")


def test_a_rollback_and_a_retention_that_die_are_completed_by_another_host(hosts, tmp_path):
    sources = [export(tmp_path / f"export-{n}", str(n), 1) for n in range(4)]

    def prepare(fresh: SharedReleases) -> None:
        with fresh.store("b") as store_of_b:
            for number, source in enumerate(sources):
                release(store_of_b, source, f"run-{number}", NOW + number)

    def change(fresh: SharedReleases, host: str) -> None:
        with fresh.store(host) as changed:
            changed.roll_back(NOW + 2, "worse")
            changed.retain(2)

    for fresh in deaths(hosts, prepare, lambda fresh: change(fresh, "a"), every=61):
        check(fresh, "b", [NOW + 1, NOW + 2])
        change(fresh, "c")
        with fresh.store("b") as others:
            states = [record.state for record in others.disk.records()]
            assert states == ["removed", "released", "released", "quarantined"]


def test_nothing_of_a_host_that_died_is_left_on_its_disk_for_its_next_release(hosts, tmp_path):
    new: Path = export(tmp_path / "new", "new", 1)
    with hosts.store("a") as store_of_a:
        store_of_a.disk.folder.mkdir(parents=True)
        for name in (".staging-1", f"{NOW}"):
            export(store_of_a.disk.folder / name, "half", 1)
        record = release(store_of_a, new)
        assert hash_files(store_of_a.disk.find(NOW)) == record.files
        assert [path.name for path in store_of_a.disk.folder.iterdir()] == [str(NOW)]
