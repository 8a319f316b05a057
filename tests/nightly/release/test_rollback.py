"""Production goes back, on disk, in a real server, and in what the next night is compared with."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nightly.baselines import accept
from nightly.cli.releases import main
from nightly.io.paths import ROOT, Paths, python_path
from nightly.records.baseline import Baseline
from nightly.records.release import Rollback
from nightly.release.errors import NotConfirmed, ReleaseError, ReleaseNotVerified, ServerNotReached, WithdrawnError
from nightly.release.store import ReleaseStore
from nightly.serving import models_config as live
from nightly.serving import verify
from nightly.serving.confirmation import NOT_CONFIRMED
from nightly.serving.rollback import step
from nightly_client import Client, ServingError, example
from tests.support.live_server import LiveServer
from tests.support.releases import NOW, export, names, release
from tests.support.servers import wait_for


@pytest.fixture
def paths(paths: Paths, tmp_path: Path) -> Paths:
    """Of a project in which taxi has three versions and a baseline of each."""
    (tmp_path / "statistics").mkdir()
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    for i in range(3):
        release(store, export(tmp_path / "export", str(i)), f"run-{i}", NOW + i)
        as_of = dt.datetime(2016, 1, 1 + i, tzinfo=dt.UTC)
        baseline = Baseline(
            model="taxi", run_id=f"run-{i}", as_of=as_of, snapshot_id=f"{i}" * 12, accepted_at=dt.datetime.now(dt.UTC)
        )
        accept(paths.baselines, baseline, tmp_path / "statistics")
    return paths


def taxi(paths: Paths) -> ReleaseStore:
    return ReleaseStore(paths.serving, paths.releases, "taxi")


def asked(paths: Paths, version: int | None = None, run: str = "manual__1") -> Path:
    folder = paths.night("taxi", run)
    Rollback(model="taxi", version=version, reason="it says yes to all", requested_by="ada", run_id=run).save(
        folder / Rollback.FILE
    )
    return folder


def accepted(paths: Paths) -> list[str]:
    return sorted(Baseline.load(path).run_id for path in paths.baselines.glob("taxi/*/baseline.json"))


def test_the_version_before_is_in_production_and_the_next_night_is_compared_with_it(paths):
    done = Rollback.parse(step(asked(paths), paths), where="test")

    assert (done.version, done.from_version, done.withdrawn, done.server) == (NOW + 1, NOW + 2, [NOW + 2], "")
    assert taxi(paths).disk.production() == NOW + 1
    record = taxi(paths).disk.record(NOW + 2)
    assert (record.state, record.why) == ("quarantined", f"rolled back to {NOW + 1} by ada: it says yes to all")
    assert accepted(paths) == ["run-0", "run-1"] and done.baselines == ["2" * 12]
    [kept] = (paths.releases / "taxi" / "rollbacks").glob("*.json")
    assert Rollback.load(kept) == done


def test_a_run_that_was_taken_back_does_not_release_again_and_another_does(paths, tmp_path):
    step(asked(paths, NOW), paths)
    assert names(taxi(paths).disk.folder) == sorted([str(NOW), f"quarantined-{NOW + 1}", f"quarantined-{NOW + 2}"])
    for run in (1, 2):
        with pytest.raises(WithdrawnError, match="rolled back"):
            release(taxi(paths), export(tmp_path / "export", str(run)), f"run-{run}")
    assert release(taxi(paths), export(tmp_path / "export", "new"), "run-9").previous_version == NOW


def test_the_same_run_again_goes_no_further_back(paths):
    folder = asked(paths)
    first = step(folder, paths)
    assert step(folder, paths) == first and taxi(paths).disk.production() == NOW + 1
    assert step(asked(paths, run="manual__2"), paths)["version"] == NOW  # another one does


def test_a_rollback_that_is_killed_is_completed_by_its_retry(paths):
    folder = asked(paths, NOW)
    die = (
        "import os, sys, signal; from pathlib import Path; from nightly.io.paths import Paths\n"
        "from nightly.release import transitions; from nightly.serving import rollback\n"
        "withdraw = transitions.Transitions.withdraw\n"
        "def once(*given): withdraw(*given); os.kill(os.getpid(), signal.SIGKILL)\n"
        "transitions.Transitions.withdraw = once\n"
        "rollback.step(Path(sys.argv[1]), Paths.from_environment())"
    )
    environment = os.environ | {"PYTHONPATH": python_path()}
    done = subprocess.run([sys.executable, "-c", die, str(folder)], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert taxi(paths).disk.production() == NOW + 1

    result = Rollback.parse(step(folder, paths), where="test")
    assert (result.version, result.from_version, result.withdrawn) == (NOW, NOW + 2, [NOW + 1, NOW + 2])
    assert taxi(paths).disk.production() == NOW and accepted(paths) == ["run-0"]


@pytest.mark.parametrize(
    ("version", "why"),
    [(str(NOW + 9), "no version"), (str(NOW + 2), "quarantined"), ("newest", "not a version: give its number")],
)
def test_what_cannot_be_gone_back_to_is_refused_and_nothing_changes(paths, version, why, capsys):
    taxi(paths).quarantine(NOW + 2, "bad")
    assert main(["rollback", "taxi", version, "--reason", "why not"]) == 2
    assert why in capsys.readouterr().err
    assert taxi(paths).disk.released() == [NOW, NOW + 1] and len(accepted(paths)) == 3


def test_a_rollback_that_no_server_confirms_is_listed_until_a_retry_completes_it(paths, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise NotConfirmed("the server is away")

    def listed() -> list[Rollback]:
        return [Rollback.load(path) for path in (paths.releases / "taxi/rollbacks").glob("*.json")]

    folder, roll_back = asked(paths), ReleaseStore.roll_back
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseStore, "roll_back", lambda *args, **kwargs: (roll_back(*args, **kwargs), away()))
        with pytest.raises(NotConfirmed):
            step(folder, paths)
    assert [(each.version, each.done_at) for each in listed()] == [(NOW + 1, None)] and listed()[0].at
    done = Rollback.parse(step(folder, paths), where="test")
    assert listed() == [done] and done.done_at


def test_a_rollback_that_an_older_version_began_is_listed_once(paths):
    folder = asked(paths, NOW)
    begun = Rollback.load(folder / Rollback.FILE).model_copy(update={"from_version": NOW + 2, "withdrawn": [NOW + 1]})
    begun.save(folder / Rollback.FILE)
    step(folder, paths)
    assert len(list((paths.releases / "taxi/rollbacks").glob("*.json"))) == 1


def test_a_damaged_version_is_not_gone_back_to(paths):
    (Path(taxi(paths).disk.record(NOW + 1).path) / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(ReleaseError, match=r"saved_model\.pb has changed"):
        step(asked(paths), paths)
    assert taxi(paths).disk.production() == NOW + 2


def test_the_command_does_it_and_says_what_it_did(paths, capsys):
    assert main(["rollback", "taxi", "previous", "--reason", "it says yes to all"]) == NOT_CONFIRMED
    assert f"taxi is at {NOW + 1}, before {NOW + 2}; quarantined: {NOW + 2}" in capsys.readouterr().out
    for version in ("previous", "previous"):
        main(["rollback", "taxi", version, "--reason", "on and on"])
    assert "the only version" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["rollback", "taxi", "previous"])  # without a reason


class Load:
    """Clients that ask without pause, over both protocols, by label and without; every answer must be whole."""

    def __init__(self, server: LiveServer, answers: set[float]) -> None:
        self._addresses = (server.rest.address, server.grpc.address)
        self._answers = answers
        self._done = threading.Event()
        self.problems: list[str] = []
        self.counts: list[int] = []

    def __enter__(self) -> "Load":
        self._threads = [
            threading.Thread(target=self._ask, args=(address, label))
            for address in self._addresses
            for label in ("stable", None)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: str, label: str | None) -> None:
        count, row = 0, example({"x": 0.0}).SerializeToString()
        with Client(address, retries=0) as client:
            while not self._done.is_set():
                try:
                    value = client.predict("taxi", [row], label=label).values[0][0]
                    if round(value, 4) not in self._answers:
                        self.problems.append(f"answered {value}")
                except ServingError as error:
                    self.problems.append(f"{address} {label}: {error}")
                count += 1
        self.counts.append(count)


@pytest.mark.slow
def test_releases_a_failed_one_and_a_rollback_under_load_fail_no_request_and_survive_a_restart(server, exports):
    first = server.release("taxi", exports / "good1", "run-1")
    with Load(server, {0.1, 0.2, 0.3, 0.4}) as load:
        second = server.release("taxi", exports / "good2", "run-2")
        third = server.release("taxi", exports / "good3", "run-3")
        with pytest.raises(ReleaseNotVerified):
            server.release("taxi", exports / "wrong", "run-4")  # answers 0.4 until it is found out
        assert server.answer("taxi", "stable") == (0.3, third.version)
        done = step(asked(server.paths, run="back"), server.paths)
        assert done["version"] == second.version and done["server"] == server.grpc.address
        assert server.answer("taxi", "stable") == server.answer("taxi") == (0.2, second.version)
        server.release("taxi", exports / "good3", "run-5")
        server.release("taxi", exports / "good4", "run-6")
        done = step(asked(server.paths, first.version, run="far_back"), server.paths)  # one that is not loaded
        assert server.answer("taxi", "stable") == server.answer("taxi") == (0.1, first.version)
    assert load.problems == [] and min(load.counts) > 50
    assert len(done["withdrawn"]) == 3
    assert server.labels("taxi") == {"stable": first.version}
    assert "num_versions: 2" in (server.paths.serving / live.FILE).read_text()

    server.stop()
    server.start()
    assert server.answer("taxi", "stable") == server.answer("taxi") == (0.1, first.version)


def test_a_rollback_while_the_server_is_down_is_done_on_disk_and_confirmed_by_its_retry(server, exports, monkeypatch):
    first = server.store("taxi").disk.production() or server.release("taxi", exports / "good1", "down-1").version
    second = server.release("taxi", exports / "good2", "down-2").version
    monkeypatch.setattr(verify, "REACH_SECONDS", 1.0)
    server.stop()
    folder = asked(server.paths, run="down")
    with pytest.raises(ServerNotReached, match=f"rolled back to {first} on disk"):
        step(folder, server.paths)
    assert server.store("taxi").disk.production() == first and server.labels("taxi") == {"stable": first}

    server.start()
    wait_for(lambda: server.answer("taxi", "stable") == (0.1, first))
    done = step(folder, server.paths)
    assert done["server"] == server.grpc.address and done["withdrawn"] == [second]
    assert json.loads((folder / Rollback.FILE).read_text()) == done


def test_a_rollback_past_a_version_whose_folder_is_gone_withdraws_it_so_that_no_night_restores_it(paths, tmp_path):
    taxi(paths).disk.path(NOW + 2).rename(tmp_path / "gone")
    assert taxi(paths).disk.lost_production() == NOW + 2

    done = step(asked(paths, NOW + 1), paths)

    assert (done["version"], done["withdrawn"]) == (NOW + 1, [NOW + 2])
    assert taxi(paths).disk.lost_production() is None
    record = taxi(paths).disk.record(NOW + 2)
    assert record.state == "quarantined" and "it says yes to all" in record.why
