"""What others see while versions are released, and what is left when the process that does it is killed."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import CanaryRunning, NotVerifiedYet, ServerNotReached, WithdrawnError
from nightly.release.store import ReleaseStore
from tests.support.deaths import deaths, died_at
from tests.support.releases import NOW, Server, export, loadable, names, release, verified, watching, whole

pytestmark = pytest.mark.slow

FORK = get_context("fork")


@pytest.fixture
def work() -> Iterator[Callable[..., ReleaseStore]]:
    """A function that gives a store with `released` versions in a new place, and clears the last one away.

    In memory where there is such a place: hundreds of deaths sync thousands of times.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**28
    with tempfile.TemporaryDirectory(dir=memory if roomy else None) as folder:
        yield stores(Path(folder))


def stores(tmp_path: Path) -> Callable[..., ReleaseStore]:
    export(tmp_path / "export", kilobytes=1)
    templates = {}
    paths = iter(range(10**6))

    def new(released: int) -> ReleaseStore:
        if released not in templates:
            templates[released] = tmp_path / f"template-{released}"
            store = ReleaseStore(templates[released] / "serving", templates[released] / "releases", "taxi")
            for i in range(released):
                release(store, export(tmp_path / f"old-{i}", str(i), 1), f"old-{i}", NOW - 100 + i)
        number = next(paths)
        shutil.rmtree(tmp_path / str(number - 1), ignore_errors=True)
        place = tmp_path / str(number)
        if released:
            shutil.copytree(templates[released], place)
        return ReleaseStore(place / "serving", place / "releases", "taxi")

    new.source = tmp_path / "export"
    return new


def check_after_crash(store: ReleaseStore, before: list[int]) -> None:
    """Whatever was interrupted: what the server can load is whole, and what was released is still there."""
    there = loadable(store.disk.folder)
    assert all(whole(store.disk.folder / str(version)) for version in there)
    assert set(before) <= set(there) and len(there) <= len(before) + 1
    assert there or not store.disk.folder.exists(), "an empty base path unloads the model"


@pytest.mark.parametrize("released", [0, 2], ids=["first release", "later release"])
def test_a_release_killed_at_any_line_is_whole_or_absent_and_its_retry_makes_exactly_one_version(work, released):
    before = [NOW - 100 + i for i in range(released)]
    killed = 0
    for store in deaths(lambda: work(released), lambda store: release(store, work.source)):
        check_after_crash(store, before)

        record = release(store, work.source)

        versions = [*before, record.version]
        assert loadable(store.disk.folder) == versions == store.disk.released(), f"killed at step {killed}"
        assert [r.version for r in store.disk.records() if r.run_id == "run-1"] == [record.version]
        assert store.disk.verify(record.version).state == "released"
        assert record.previous_version == (before[-1] if before else None)
        assert names(store.disk.folder) == [str(version) for version in store.disk.released()], "leftovers"
        assert len(names(store.disk.releases)) == released + 2 and names(store.disk.serving) == ["taxi"]
        killed += 1
    assert killed > 25  # changes on the way through a release; fewer would mean that the tracing saw nothing


def test_a_retry_that_is_killed_too_can_be_retried(work):
    killed = 0
    for first in range(0, 30, 3):

        def dead(first: int = first) -> ReleaseStore:
            store = work(1)
            died_at(first, lambda: release(store, work.source), folder=store.disk.serving.parent)
            return store

        for store in deaths(dead, lambda store: release(store, work.source), every=2):
            check_after_crash(store, [NOW - 100])
            release(store, work.source)
            assert len(store.disk.released()) == len(store.disk.records()) == 2
            killed += 1
    assert killed > 50


def test_another_run_completes_the_release_that_died_after_its_rename(work):
    completed = 0
    for store in deaths(lambda: work(1), lambda store: release(store, work.source)):
        renamed = len(loadable(store.disk.folder)) == 2
        other = release(store, work.source, "run-2", NOW + 60)
        runs = [record.run_id for record in store.disk.records() if record.state == "released"]
        assert runs == (["old-0", "run-1", "run-2"] if renamed else ["old-0", "run-2"])
        assert other.previous_version == (NOW if renamed else NOW - 100)
        completed += renamed
    assert completed


@pytest.mark.parametrize("again", ["run-1", "run-2"], ids=["retry", "another run"])
def test_a_verified_release_killed_at_any_line_is_in_production_only_when_it_is_verified(work, again):
    killed = unverified = 0
    for store in deaths(lambda: work(1), lambda store: verified(store, work.source)):
        there = {record.version: record for record in store.disk.records()}
        production = store.disk.production()
        assert production == NOW - 100 or there[production].verification is not None
        dead = [record.version for record in store.disk.records() if record.state == "verifying"]
        unverified += bool(dead)

        record = verified(store, work.source, again)

        assert store.disk.production() == record.version and record.verification is not None
        assert Server(store).stable.read_text() == str(record.version)
        states = {r.version: r.state for r in store.disk.records()}
        if again == "run-1":
            assert states == {NOW - 100: "released", record.version: "released"}
        else:
            assert set(dead) <= {record.version}, "the same files have their number again"
        assert "verifying" not in states.values()
        killed += 1
    assert killed > 30 and unverified > 2


def test_an_unverified_version_killed_at_any_line_while_it_is_released_again_keeps_its_number(work):
    killed = 0

    class Away(Server):
        def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
            raise ServerNotReached("it is away")

    def new() -> ReleaseStore:
        store = work(1)
        with pytest.raises(NotVerifiedYet):
            verified(store, work.source, server=Away(store))
        return store

    other = export(work.source.with_name("another-model"), "another", 1)
    for store in deaths(new, lambda store: verified(store, work.source)):
        assert loadable(store.disk.folder) in ([NOW - 100], [NOW - 100, NOW])
        assert verified(store, other, "run-2").version > NOW, "a server had it as the version of other files"
        assert verified(store, work.source).state == "released"
        assert [record.state for record in store.disk.records()].count("unverified") == 0
        assert names(store.disk.folder) == [str(version) for version in store.disk.released()], "leftovers"
        killed += 1
    assert killed > 35


@pytest.mark.parametrize("again", ["run-1", "run-2"], ids=["retry", "another run"])
def test_a_canary_killed_at_any_line_is_the_canary_by_its_retry_and_production_never_moves(work, again):
    killed = canaries = 0
    stable = NOW - 100
    for store in deaths(lambda: work(1), lambda store: verified(store, work.source, share=0.1)):
        assert store.disk.production() == stable
        was = store.disk.canary()
        canaries += was is not None

        if again == "run-2" and was is not None:
            with pytest.raises(CanaryRunning):
                verified(store, work.source, again, 0.1)
            record = was
        else:
            record = verified(store, work.source, again, 0.1)

        assert store.disk.canary() == record and record.state == "canary" and record.previous_version == stable
        assert store.disk.production() == stable
        if Server(store).stable.exists():
            assert (Server(store).stable.read_text(), Server(store).canary.read_text()) == (
                str(stable),
                str(record.version),
            )
        assert [r.state for r in store.disk.records() if r.state in ("canary", "verifying")] == ["canary"]
        killed += 1
    assert killed > 30


@pytest.mark.parametrize("end", ["promote", "stop"])
def test_the_end_of_a_canary_killed_at_any_line_is_completed_by_its_retry(work, end):
    killed = 0

    def new() -> ReleaseStore:
        store = work(2)
        verified(store, work.source, share=0.1)
        return store

    def act(store: ReleaseStore) -> ReleaseRecord:
        server = Server(store)
        return store.promote(NOW, server=server) if end == "promote" else store.stop(NOW, "worse", server=server)

    for store in deaths(new, act):
        assert store.disk.production() in ((NOW - 99, NOW) if end == "promote" else (NOW - 99,))
        record = act(store)
        assert act(store) == record, "a second time changes nothing"
        server = Server(store)
        stable = NOW if end == "promote" else NOW - 99
        assert (server.stable.read_text(), server.canary.read_text()) == (str(stable), "None")
        assert store.disk.canary() is None and store.disk.production() == stable
        assert record.state == ("released" if end == "promote" else "quarantined")
        if end == "stop":
            with pytest.raises(WithdrawnError, match="worse"):
                verified(store, work.source, share=0.1)
        killed += 1
    assert killed > 5


def test_a_quarantine_killed_at_any_line_is_completed_by_its_retry(work):
    killed = 0
    for store in deaths(lambda: work(2), lambda store: store.quarantine(NOW - 99, "bad")):
        assert NOW - 100 in store.disk.released()
        record = store.quarantine(NOW - 99, "bad")
        assert (record.state, record.why) == ("quarantined", "bad")
        assert loadable(store.disk.folder) == store.disk.released() == [NOW - 100]
        with pytest.raises(WithdrawnError):
            release(store, work.source.with_name("old-1"), "old-1")
        killed += 1
    assert killed > 5


def test_retention_killed_at_any_line_leaves_whole_versions_and_is_completed_by_its_retry(work):
    killed = 0
    for store in deaths(lambda: work(3), lambda store: store.retain(2)):
        there = loadable(store.disk.folder)
        assert there[-2:] == [NOW - 99, NOW - 98] and all(whole(store.disk.folder / str(version)) for version in there)
        store.retain(2)
        assert store.disk.released() == loadable(store.disk.folder) == [NOW - 99, NOW - 98]
        assert [record.state for record in store.disk.records()] == ["removed", "released", "released"]
        assert len(names(store.disk.folder)) == 2
        killed += 1
    assert killed > 10


def test_a_watching_server_never_sees_a_half_version_or_none_at_all(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    with watching(store.disk.folder) as saw:
        for i in range(60):
            record = release(store, export(tmp_path / "export", str(i), 256), f"run-{i}", NOW + i)
            time.sleep(0.005)
            if i % 7 == 6:
                store.quarantine(record.version, "bad")
            store.retain(3)
    seen, broken, emptied, backwards, polls = saw
    assert (broken, emptied, backwards) == ([], 0, 0)
    assert len(seen) > 50 and polls > 300


def test_concurrent_releases_of_different_runs_all_get_a_version_of_their_own(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    sources = [export(tmp_path / f"export-{i}", str(i), 256) for i in range(6)]
    with watching(store.disk.folder) as saw:
        run_all(lambda i: release(store, sources[i], f"run-{i}"), 6)
    assert saw[1:3] == [[], 0]
    assert store.disk.released() == list(range(NOW, NOW + 6))
    assert sorted(record.run_id for record in store.disk.records()) == [f"run-{i}" for i in range(6)]
    assert [record.previous_version for record in store.disk.records()] == [None, *store.disk.released()[:-1]]


def test_concurrent_releases_of_one_run_make_one_version(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    source = export(tmp_path / "export", kilobytes=256)
    run_all(lambda i: release(store, source, now=NOW + i), 6)
    assert len(store.disk.released()) == len(store.disk.records()) == 1


def run_all(work: Callable[[int], object], number: int) -> None:
    processes = [FORK.Process(target=work, args=(i,)) for i in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * number
