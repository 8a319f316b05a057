"""A canary in the serving volume: one at most, beside the version in production, which it does not disturb."""

from pathlib import Path

import pytest

from nightly.canary.decide import compare_step, resolve
from nightly.canary.quarantine import quarantine
from nightly.io.paths import Paths
from nightly.records.canary import CanaryRequest, Comparison
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord, Rollback
from nightly.release.comparisons import comparisons, save_comparison
from nightly.release.errors import CanaryRunning, ReleaseError, ReleaseNotVerified
from nightly.release.store import ReleaseStore
from nightly.serving.rollback import roll_back_now, step
from tests.support.releases import NOW, Server, export, names, origin, release


@pytest.fixture
def released(paths: Paths, tmp_path: Path) -> ReleaseStore:
    """Two released versions in the project of `paths`."""
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    for i in range(2):
        release(store, export(tmp_path / "export", str(i)), f"run-{i}", NOW + i)
    return store


def compared(version: int) -> Comparison:
    return Comparison(model="taxi", version=version, stable=NOW + 1, share=0.1, since=utc_now())


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    """Two released versions."""
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    for i in range(2):
        release(store, export(tmp_path / "export", str(i)), f"run-{i}", NOW + i)
    return store


def to_canary(store: ReleaseStore, source: Path, run_id: str = "run-canary") -> ReleaseRecord:
    return store.release(export(source, "c"), origin(run_id), server=Server(store), canary_share=0.1, now=NOW + 9)


def test_it_is_beside_production_and_another_release_waits_for_it(store, tmp_path):
    record = to_canary(store, tmp_path / "export")

    assert (record.state, record.previous_version, record.canary_share) == ("canary", NOW + 1, 0.1)
    assert store.disk.canary() == record and store.disk.production() == NOW + 1
    assert store.disk.waits_for("run-canary") == "" and f"canary {record.version}" in store.disk.waits_for("run-9")
    with pytest.raises(CanaryRunning, match=r"is being compared with production since .* UTC"):
        release(store, export(tmp_path / "other", "o"), "run-9")
    assert to_canary(store, tmp_path / "export") == record, "its own run's retry is not refused"


def test_the_first_version_of_a_model_is_nobodys_canary(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    record = to_canary(store, tmp_path / "export")
    assert (record.state, record.canary_share) == ("released", None)


def test_without_a_model_server_there_are_no_labels_and_so_no_canary(store, tmp_path):
    with pytest.raises(ReleaseError, match="NIGHTLY_SERVING_REST"):
        store.release(export(tmp_path / "export", "c"), origin("run-9"), canary_share=0.1)
    assert len(store.disk.records()) == 2


def test_retention_keeps_canary_production_and_predecessor(store, tmp_path):
    record = to_canary(store, tmp_path / "export")
    assert store.retain(1) == []
    assert names(store.disk.folder) == [str(NOW), str(NOW + 1), str(record.version)]
    store.promote(record.version, server=Server(store))
    assert store.retain(2) == [NOW]


def test_what_is_no_canary_is_neither_promoted_nor_stopped(store):
    with pytest.raises(ReleaseError, match="is released"):
        store.promote(NOW, server=Server(store))
    with pytest.raises(ReleaseError, match="no canary"):
        store.stop(NOW + 1, "worse", server=None)
    assert store.disk.released() == [NOW, NOW + 1]


def test_a_damaged_canary_is_not_promoted(store, tmp_path):
    record = to_canary(store, tmp_path / "export")
    (Path(record.path) / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(ReleaseError, match=r"saved_model\.pb has changed"):
        store.promote(record.version, server=Server(store))
    assert store.disk.production() == NOW + 1


def test_a_rollback_withdraws_the_canary_too_and_ends_its_comparison(released, paths, tmp_path):
    store, canary = released, to_canary(released, tmp_path / "export")
    save_comparison(paths, compared(canary.version))
    folder = paths.night("taxi", "manual__1")
    Rollback(model="taxi", reason="both are wrong", requested_by="ada").save(folder / Rollback.FILE)

    done = Rollback.parse(step(folder, paths), where="test")

    assert (done.version, done.withdrawn) == (NOW, [NOW + 1, canary.version])
    assert store.disk.canary() is None and store.disk.record(canary.version).state == "quarantined"
    [comparison] = comparisons(paths, "taxi")
    assert (comparison.decision, comparison.decided_by) == ("stop", "ada") and "both are wrong" in comparison.reason


@pytest.mark.parametrize("how", ["rollback", "quarantine of production", "quarantine of an older version"])
def test_a_promotion_that_was_not_completed_ends_with_its_version_and_blocks_no_later_canary(
    released, paths, tmp_path, how
):
    canary = to_canary(released, tmp_path / "export")
    save_comparison(paths, compared(canary.version).decided("promote", "better", "ada"))
    released.promote(canary.version, server=Server(released))  # the bucket of the release was away then
    if how == "rollback":
        roll_back_now(paths, Rollback(model="taxi", reason="it is wrong", requested_by="bob"))
    else:
        if "older" in how:
            release(released, export(tmp_path / "export", "newer"), "run-newer", NOW + 20)
        quarantine(paths, "taxi", canary.version, by="bob", reason="it is wrong")

    [comparison] = comparisons(paths, "taxi")
    assert (comparison.decision, comparison.decided_by) == ("stop", "bob") and comparison.done_at
    assert [earlier.decision for earlier in comparison.earlier] == ["promote"]
    folder = paths.night("taxi", "night-9")
    CanaryRequest(model="taxi", requested_by="the schedule").save(folder / "canary.json")
    assert compare_step(folder, paths) == {"unfinished": False}


@pytest.mark.parametrize("decision", ["stop", "promote"])
def test_a_decision_of_a_person_needs_a_reason(released, paths, decision):
    with pytest.raises(ReleaseError, match=f"a reason is required to {decision} the canary of taxi: give one"):
        resolve(paths, CanaryRequest(model="taxi", decision=decision, requested_by="ada"), None)


def test_a_promotion_after_which_the_server_answers_wrongly_restores_the_labels(store, tmp_path):
    class Wrong(Server):
        def serve(self, version, loadable, canary=None):
            super().serve(version, loadable, canary)
            if version == record.version:
                raise ReleaseNotVerified(f"stable of taxi is {NOW + 1} after it was moved to {version}")

    record = to_canary(store, tmp_path / "export")
    server = Wrong(store)
    with pytest.raises(ReleaseNotVerified, match="after it was moved"):
        store.promote(record.version, server=server)
    assert (server.stable.read_text(), server.canary.read_text()) == (str(NOW + 1), str(record.version))
    assert store.disk.canary() == record and store.disk.production() == NOW + 1
