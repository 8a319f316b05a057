"""Commands in a shell that has no NIGHTLY_SERVING_…, beside a real model server whose clients ask without pause."""

import threading

import pytest

from nightly.canary import decide as canaries
from nightly.canary import quarantine as quarantines
from nightly.cli import configure
from nightly.cli import night as nights
from nightly.cli.releases import main
from nightly.io.polling import poll
from nightly.models import load_config
from nightly.records.config import Release
from nightly.release.errors import NotConfirmed, ServerNotReached
from nightly.release.store import ReleaseStore
from nightly.serving import address, verify
from nightly.serving import models_config as live
from nightly.serving import rollback as rollbacks
from nightly.serving.confirmation import NOT_CONFIRMED
from nightly.serving.server import find_server
from nightly_client import Client, ServingError, example
from tests.support.live_server import LiveServer
from tests.support.releases import NOW, export, origin, release

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(autouse=True)
def any_model(monkeypatch):
    """Every name is a model's, with taxi's config."""

    def config(name: str):
        return load_config("taxi").model_copy(update={"name": name})

    for module in (canaries, rollbacks, quarantines):
        monkeypatch.setattr(module, "load_config", config)
    monkeypatch.setattr("nightly.cli.releases.load_config", config)


@pytest.fixture
def shell(server, monkeypatch):
    """Forget the environment; the server's address is recorded in its volume, as `make up` does it."""
    known = address.find_address(server.paths)
    monkeypatch.delenv("NIGHTLY_SERVING_REST")
    monkeypatch.delenv("NIGHTLY_SERVING_GRPC")
    address.record(server.paths, known)
    yield server
    address.forget(server.paths, known)


class Asking:
    """A client of the label `stable` that asks without pause."""

    def __init__(self, server: LiveServer, model: str) -> None:
        self.server, self.model = server, model
        self.problems: list[str] = []
        self.count = 0
        self._done = threading.Event()

    def __enter__(self) -> "Asking":
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        poll(lambda: self.count > 10 or self.problems, every=0.05, seconds=30)  # a busy machine answers slowly
        self._done.set()
        self._thread.join()
        assert self.problems == [] and self.count > 10

    def _ask(self) -> None:
        row = example({"x": 0.0}).SerializeToString()
        with Client(self.server.grpc.address, retries=0) as client:
            while not self._done.is_set():
                try:
                    client.predict(self.model, [row], label="stable")
                    self.count += 1
                except ServingError as error:
                    self.problems.append(str(error))


def versions(server, exports, model: str, count: int, canary: bool = False) -> list[int]:
    released = [server.release(model, exports / f"good{i + 1}", f"run-{i}").version for i in range(count)]
    if canary:
        released.append(server.release(model, exports / "good4", "run-canary", canary_share=0.1).version)
    return released


def test_a_rollback_moves_the_label_before_the_version_leaves(shell, exports, capsys):
    first, second = versions(shell, exports, "back", 2)
    with Asking(shell, "back"):
        assert main(["rollback", "back", "previous", "--reason", "it is wrong"]) == 0
        assert shell.answer("back", "stable") == (0.1, first)
    assert f"quarantined: {second}; confirmed by the server at {shell.grpc.address}" in capsys.readouterr().out
    assert main(["verify", "back"]) == 0 and "all four agree" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["stop", "promote"])
def test_a_canary_ends_in_the_server_as_in_the_records(shell, exports, action, capsys):
    name = f"canary_{action}"
    stable, canary = versions(shell, exports, name, 1, canary=True)
    with Asking(shell, name):
        assert main(["canary", name, action, "--reason", "because"]) == 0
    expected = canary if action == "promote" else stable
    assert shell.labels(name) == {"stable": expected} and shell.answer(name, "stable")[1] == expected
    assert main(["verify", name]) == 0


@pytest.mark.parametrize("which", ["production", "older", "canary"])
def test_a_version_is_quarantined_by_command(shell, exports, which, capsys):
    name = f"bad_{which}"
    older, production, canary = versions(shell, exports, name, 2, canary=True)
    version = {"production": production, "older": older, "canary": canary}[which]
    with Asking(shell, name):
        assert main(["quarantine", name, str(version), "--reason", "damaged"]) == 0
    store = shell.store(name)
    assert store.disk.record(version).state == "quarantined" and "damaged" in store.disk.record(version).why
    expected = older if which == "production" else production
    assert shell.answer(name, "stable")[1] == expected == store.disk.production()
    assert shell.labels(name) == {"stable": expected} | ({"canary": canary} if which == "older" else {})
    assert main(["verify", name]) == 0, capsys.readouterr().err


def test_a_server_that_does_not_answer_is_said_and_told_later(shell, exports, monkeypatch, capsys):
    first, _ = versions(shell, exports, "down", 2)
    monkeypatch.setattr(verify, "REACH_SECONDS", 1.0)
    there = address.find_address(shell.paths)
    address.record(shell.paths, there.model_copy(update={"grpc": "127.0.0.1:9"}))
    try:
        assert main(["rollback", "down", "previous", "--reason", "it is wrong"]) == NOT_CONFIRMED
        assert "bin/releases serve down" in capsys.readouterr().err
        assert shell.labels("down") == {"stable": first} and shell.store("down").disk.production() == first
        assert main(["verify", "down"]) == NOT_CONFIRMED
        assert main(["serve", "down"]) == NOT_CONFIRMED
    finally:
        address.record(shell.paths, there)
    assert main(["verify", "down"]) == 1
    assert f"and the records at {first}\n  what to do: bin/releases serve down" in capsys.readouterr().err
    assert main(["serve", "down"]) == 0
    assert main(["verify", "down"]) == 0 and shell.answer("down", "stable") == (0.1, first)


def test_a_promotion_that_no_server_hears_changes_nothing(shell, exports, monkeypatch):
    stable, canary = versions(shell, exports, "unheard", 1, canary=True)
    there, text = address.find_address(shell.paths), (shell.paths.serving / live.FILE).read_text()
    address.record(shell.paths, there.model_copy(update={"grpc": "127.0.0.1:9"}))
    monkeypatch.setattr(verify, "REACH_SECONDS", 1.0)
    try:
        with pytest.raises(ServerNotReached) as raised:
            shell.store("unheard").promote(canary, server=find_server(shell.paths, "unheard", Release()))
    finally:
        address.record(shell.paths, there)
    assert not isinstance(raised.value, NotConfirmed)
    assert (shell.paths.serving / live.FILE).read_text() == text
    assert shell.store("unheard").disk.production() == stable


def test_a_night_by_command_is_verified_by_the_recorded_server(shell):
    assert nights.main(["taxi", "--as-of", "2014-02-01", "--release"]) == 0
    version = shell.store("taxi").disk.production()
    assert shell.labels("taxi") == {"stable": version} and shell.store("taxi").disk.record(version).verification
    assert shell.grpc.status("taxi")[version].state == "AVAILABLE"
    assert main(["verify", "taxi"]) == 0


def test_a_release_records_the_server_of_its_environment(server):
    assert address.find_address(server.paths) and not address.path(server.paths).exists()
    assert nights.main(["taxi", "--as-of", "2014-02-02", "--release"]) == 0
    recorded = address.ServerAddress.load(address.path(server.paths))
    assert recorded == address.find_address(server.paths)
    address.forget(server.paths, recorded)


@pytest.fixture
def alone(tmp_path, monkeypatch) -> ReleaseStore:
    """Three versions, and no model server known."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    for name in ("REST", "GRPC", "BASE_PATH"):
        monkeypatch.delenv(f"NIGHTLY_SERVING_{name}", raising=False)
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    for i in range(3):
        release(store, export(tmp_path / "export", str(i)), f"run-{i}", NOW + i)
    return store


def labels(store: ReleaseStore) -> dict[str, int]:
    entry = live.LiveConfig(store.disk.serving, "").entry("taxi")
    return dict(entry.version_labels) if entry is not None else {}


def test_the_configuration_is_written_where_no_server_is_known_and_the_status_says_so(alone, capsys):
    assert main(["rollback", "taxi", "previous", "--reason", "it is wrong"]) == NOT_CONFIRMED
    assert "no model server is known here" in capsys.readouterr().err
    assert labels(alone) == {"stable": NOW + 1}
    assert main(["quarantine", "taxi", str(NOW + 1), "--reason", "it too"]) == NOT_CONFIRMED
    assert labels(alone) == {"stable": NOW}
    assert main(["quarantine", "taxi", str(NOW), "--reason", "all of them"]) == NOT_CONFIRMED
    assert labels(alone) == {} and alone.disk.production() is None


def test_a_release_that_no_server_verifies_is_in_the_configuration(alone, tmp_path, monkeypatch):
    server = find_server(address.Paths.from_environment(), "taxi", Release())
    record = alone.release(export(tmp_path / "export", "new"), origin("run-9"), server=server)
    assert (record.state, record.server) == ("released", "") and labels(alone) == {"stable": record.version}
    (alone.disk.serving / live.FILE).unlink()  # as if it had died before it was written
    assert alone.release(export(tmp_path / "export", "new"), origin("run-9"), server=server) == record
    assert labels(alone) == {"stable": record.version}


def test_verify_names_each_disagreement_and_what_to_do(alone, capsys):
    configure.main([])
    assert main(["verify", "taxi"]) == NOT_CONFIRMED
    assert "records, disk and models.config agree" in capsys.readouterr().out

    (alone.disk.folder / str(NOW) / "saved_model.pb").write_bytes(b"other")
    (alone.disk.folder / str(NOW + 1)).rename(alone.disk.serving / "lost")
    (alone.disk.folder / "7").mkdir()
    text = (alone.disk.serving / live.FILE).read_text()
    (alone.disk.serving / live.FILE).write_text(text.replace(str(NOW + 2), str(NOW)))
    assert main(["verify", "taxi"]) == 1
    shown = capsys.readouterr().err
    for part in (
        f"bin/releases repair taxi {NOW}",
        f"taxi {NOW + 1} is released by its record, and {alone.disk.folder / str(NOW + 1)} is not there",
        f"move {alone.disk.folder / '7'} out of",
        f"models.config has stable of taxi at {NOW}, and the records at {NOW + 2}",
        "bin/releases serve taxi",
    ):
        assert part in shown, shown
    assert main(["serve", "taxi"]) == NOT_CONFIRMED and labels(alone) == {"stable": NOW + 2}
    (alone.disk.serving / live.FILE).unlink()
    assert main(["verify", "taxi"]) == 1 and "nightly.cli.configure" in capsys.readouterr().err
    (alone.disk.serving / live.FILE).write_text("model_config_list {")
    assert main(["verify", "taxi"]) == 1 and "cannot be read" in capsys.readouterr().err


def test_the_environment_wins_over_the_record_and_configure_records_it(alone, monkeypatch):
    paths = address.Paths.from_environment()
    address.record(paths, address.ServerAddress(rest="recorded:1", grpc="recorded:2", base_path="/elsewhere"))
    assert address.find_address(paths).grpc == "recorded:2" and address.base_path(paths) == "/elsewhere"
    monkeypatch.setenv("NIGHTLY_SERVING_REST", "serving:8501")
    monkeypatch.setenv("NIGHTLY_SERVING_GRPC", "serving:8500")
    monkeypatch.setenv("NIGHTLY_SERVING_BASE_PATH", "/models")
    expected = address.ServerAddress(rest="serving:8501", grpc="serving:8500", base_path="/models")
    assert address.find_address(paths) == expected
    configure.main([])
    assert address.ServerAddress.load(address.path(paths)) == expected
    assert 'base_path: "/models/taxi"' in (paths.serving / live.FILE).read_text()
