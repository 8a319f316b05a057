"""A model server that goes away while it verifies a good version: that is no word against the version."""

import os
import shutil
import signal
import threading

import pytest

from nightly.release.errors import NotVerifiedYet, ReleaseNotVerified, ServerNotReached, WithdrawnError
from nightly.serving import models_config as live
from nightly.serving import verify
from nightly.serving.server import ConfigurationFile
from nightly_client import VersionStatus
from tests.support.releases import names
from tests.support.servers import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AWAY = {
    "while the version loads": "wait_until_available",
    "at the golden predictions": "largest_difference",
    "while the latency is measured": "measure_latency",
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(verify, "REACH_SECONDS", 1.0)
    monkeypatch.setattr("nightly.serving.server.CALL_SECONDS", 2.0)
    monkeypatch.setattr(verify, "LATENCY_REQUESTS", 5)


def dies_at(server, function: str, patch: pytest.MonkeyPatch) -> None:
    """Kill the server when a release comes to `function` of verify.py for the first time."""
    original = getattr(verify, function)

    def killing(*given, **named):
        server.server.process.kill()
        server.server.process.wait()
        return original(*given, **named)

    patch.setattr(verify, function, killing)


def withdrawn(server, name: str, first: int, second: int) -> None:
    store = server.store(name)
    record = store.disk.record(second)
    assert (record.state, store.disk.production()) == ("unverified", first)
    assert names(store.disk.folder) == [str(first), f"unverified-{second}"]
    assert store.disk.find(second) == store.disk.folder / f"unverified-{second}"
    assert server.labels(name) == {"stable": first}


@pytest.mark.parametrize("again", ["run-2", "run-3"], ids=["retry", "a later night"])
@pytest.mark.parametrize("when", AWAY)
def test_a_server_killed_during_the_verification_makes_the_release_wait_and_not_the_model_bad(
    server, exports, when, again
):
    name = f"{when}_{again}".replace(" ", "_").replace("-", "_")
    first = server.release(name, exports / "good1", "run-1").version
    with pytest.MonkeyPatch.context() as patch:
        dies_at(server, AWAY[when], patch)
        with pytest.raises(NotVerifiedYet, match="could not be verified, and is out of sight"):
            server.release(name, exports / "good2", "run-2")
    second = server.store(name).disk.records()[-1].version
    withdrawn(server, name, first, second)
    with pytest.raises(ServerNotReached):  # a retry while it is still away changes nothing
        server.release(name, exports / "good2", "run-2")
    withdrawn(server, name, first, second)

    server.start()
    assert server.answer(name, "stable") == (0.1, first)
    record = server.release(name, exports / "good2", again)

    assert (record.version, record.state, record.run_id) == (second, "released", again)
    assert record.verification is not None and len(server.store(name).disk.records()) == 2
    assert names(server.store(name).disk.folder) == [str(first), str(second)]
    assert server.answer(name, "stable") == server.answer(name) == (0.2, second)


def test_a_server_killed_when_the_label_is_moved_leaves_it_at_the_version_before(server, exports, monkeypatch):
    first = server.release("label", exports / "good1", "run-1").version
    with pytest.MonkeyPatch.context() as patch:
        serving = live.LiveConfig.serving

        def killing(*given, **named):
            server.server.process.kill()
            server.server.process.wait()
            return serving(*given, **named)

        patch.setattr(live.LiveConfig, "serving", killing)
        with pytest.raises(NotVerifiedYet):
            server.release("label", exports / "good2", "run-2")
    second = server.store("label").disk.records()[-1].version
    withdrawn(server, "label", first, second)
    server.start()
    assert server.answer("label", "stable") == (0.1, first)
    assert server.release("label", exports / "good2", "run-2").version == second


def test_a_server_that_is_stopped_for_a_while_says_nothing_about_the_version(server, exports):
    first = server.release("stopped", exports / "good1", "run-1").version
    process = server.server.process.pid
    with pytest.MonkeyPatch.context() as patch:
        original = verify.largest_difference

        def stopping(*given, **named):
            os.kill(process, signal.SIGSTOP)
            threading.Timer(3, os.kill, (process, signal.SIGCONT)).start()
            return original(*given, **named)

        patch.setattr(verify, "largest_difference", stopping)
        with pytest.raises(NotVerifiedYet, match="DEADLINE_EXCEEDED"):
            server.release("stopped", exports / "good2", "run-2")
    wait_for(lambda: server.answer("stopped", "stable") == (0.1, first))
    second = server.store("stopped").disk.records()[-1].version
    assert server.release("stopped", exports / "good2", "run-2").version == second


def test_what_came_meanwhile_is_not_superseded_by_an_older_number(server, exports):
    server.release("meanwhile", exports / "good1", "run-1")
    with pytest.MonkeyPatch.context() as patch:
        dies_at(server, "largest_difference", patch)
        with pytest.raises(NotVerifiedYet):
            server.release("meanwhile", exports / "good2", "run-2")
    server.start()
    store = server.store("meanwhile")
    waiting = store.disk.records()[-1].version
    third = server.release("meanwhile", exports / "good3", "run-3").version
    again = server.release("meanwhile", exports / "good2", "run-2")
    assert again.version > third > waiting
    assert store.disk.record(waiting).state == "removed" and str(again.version) in store.disk.record(waiting).why
    assert server.answer("meanwhile", "stable") == (0.2, again.version)
    assert server.release("meanwhile", exports / "good2", "run-2") == again


def test_a_first_version_waits_while_the_server_refuses_another_models_label(server, exports):
    versions = [server.release("moved", exports / f"good{number}", f"run-{number}").version for number in (1, 2, 3)]
    # As a rollback does while the server does not answer: it is written to the file alone, and is not loaded.
    ConfigurationFile(server.paths, "moved").write(versions[0], versions)
    with pytest.raises(NotVerifiedYet, match=r"FAILED_PRECONDITION.* of model moved"):
        server.release("newcomer", exports / "good4", "run-1")
    store = server.store("newcomer")
    (first,) = store.disk.records()
    assert first.state == "unverified" and names(store.disk.folder) == [f"unverified-{first.version}"]
    assert not live.LiveConfig(server.paths.serving, "").has("newcomer")

    server.stop()
    server.start()
    released = server.release("newcomer", exports / "good4", "run-2")
    assert (released.version, released.state) == (first.version, "released")
    assert server.answer("newcomer", "stable") == (0.4, first.version)
    assert server.answer("moved", "stable") == (0.1, versions[0])


def test_a_first_version_is_released_although_another_new_model_does_not_load(server, exports):
    other = ConfigurationFile(server.paths, "others_fault")
    shutil.copytree(exports / "broken", server.paths.serving / "others_fault" / "1700000000")
    other.write(1700000000, [1700000000])
    try:
        record = server.release("faultless", exports / "good1", "run-1")
        assert record.state == "released" and server.answer("faultless", "stable") == (0.1, record.version)
    finally:
        other.write(None, [])
        server.grpc.reload_config((server.paths.serving / live.FILE).read_text())


@pytest.mark.parametrize(
    ("code", "expected"), [("RESOURCE_EXHAUSTED", NotVerifiedYet), ("INTERNAL", ReleaseNotVerified)]
)
def test_a_server_without_memory_or_disk_says_nothing_about_the_version(server, exports, monkeypatch, code, expected):
    name = f"load_{code.lower()}"
    first = server.release(name, exports / "good1", "run-1").version
    with monkeypatch.context() as patch:  # a server that lacks memory cannot be had at will
        ended = VersionStatus("END", "no memory, or a bad kernel", code)
        patch.setattr("nightly_client.Client.status", lambda self, model, version=None: {version: ended})
        with pytest.raises(expected, match="could not load"):
            server.release(name, exports / "good2", "run-2")
    assert server.store(name).disk.production() == first
    assert server.answer(name, "stable") == (0.1, first)


def test_a_refusal_stays_one(server, exports):
    first = server.release("refused", exports / "good1", "run-1").version
    with pytest.raises(ReleaseNotVerified, match="golden"):
        server.release("refused", exports / "wrong", "run-2")
    assert server.store("refused").disk.records()[-1].state == "quarantined"
    with pytest.raises(WithdrawnError):
        server.release("refused", exports / "wrong", "run-2")
    assert server.answer("refused", "stable") == (0.1, first)
