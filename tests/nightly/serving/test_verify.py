"""A release is in production when the model server has answered for it; a real server, started from our file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightly.cli import show
from nightly.io.paths import ROOT, Paths, python_path
from nightly.records.base import ContractError
from nightly.records.config import Release
from nightly.records.golden import GOLDEN, Golden
from nightly.release.errors import CanaryRunning, ReleaseNotVerified, ServerNotReached, WithdrawnError
from nightly.serving import models_config as live
from nightly.serving import verify
from nightly.serving.inspection import describe
from nightly.serving.server import ConfigurationFile, find_server
from nightly_client import ServingError
from tests.support.live_server import model
from tests.support.releases import names
from tests.support.servers import wait_for

pytestmark = pytest.mark.integration


def test_a_release_is_verified_and_then_labelled_stable(server, exports):
    server.release("other", exports / "good4")
    first = server.release("good", exports / "good1", "run-1")

    assert first.state == "released" and first.server == first.verification.server == server.grpc.address
    assert first.verification.golden_examples == 3 and first.verification.largest_difference < 1e-6
    assert first.verification.p99_ms > 0 and first.verification.previous_p99_ms is None
    assert server.answer("good", "stable") == server.answer("good") == (0.1, first.version)

    second = server.release("good", exports / "good2", "run-2")

    assert second.verification.previous_p99_ms > 0
    assert server.store("good").disk.production() == second.version
    assert server.labels("good") == {"stable": second.version}
    assert server.answer("good", "stable") == server.answer("good") == (0.2, second.version)
    assert server.answer("other", "stable")[0] == 0.4, "another model's part of the configuration is lost"
    assert server.release("good", exports / "good2", "run-2") == second


@pytest.mark.parametrize(
    ("bad", "why"), [("wrong", r"golden predictions .* differ by 0\.001"), ("broken", "could not load .* Can't parse")]
)
def test_a_version_that_fails_is_quarantined_and_the_one_before_stays(server, exports, bad, why):
    name = f"{bad}_after_good"
    good = server.release(name, exports / "good1", "run-1")
    began = time.monotonic()
    with pytest.raises(ReleaseNotVerified, match=why):
        server.release(name, exports / bad, "run-2")

    assert time.monotonic() - began < 15, "it waited although the server had said that it failed"
    store = server.store(name)
    taken_back = store.disk.records()[-1]
    assert taken_back.state == "quarantined" and taken_back.verification is None and taken_back.why
    assert names(store.disk.folder) == [str(good.version), f"quarantined-{taken_back.version}"]
    assert store.disk.production() == good.version and server.labels(name) == {"stable": good.version}
    wait_for(lambda: server.answer(name) == server.answer(name, "stable") == (0.1, good.version))
    with pytest.raises(WithdrawnError, match="not released again"):
        server.release(name, exports / bad, "run-2")
    assert server.release(name, exports / "good2", "run-3").previous_version == good.version


def test_a_first_version_that_fails_leaves_no_model_that_a_server_would_wait_for(server, exports):
    with pytest.raises(ReleaseNotVerified, match="golden"):
        server.release("first", exports / "wrong", "run-1")
    with pytest.raises(ReleaseNotVerified, match="Can't parse"):
        server.release("first", exports / "broken", "run-2")

    assert not live.LiveConfig(server.paths.serving, "").has("first")
    with pytest.raises(ServingError, match="not found"):
        server.answer("first")
    server.release("first", exports / "good3", "run-3")
    assert server.answer("first", "stable")[0] == 0.3


def test_a_version_much_slower_than_the_one_before_is_not_released(server, exports, monkeypatch):
    monkeypatch.setattr(verify, "LATENCY_REQUESTS", 12)
    good = server.release("slow", exports / "good1", "run-1")
    with pytest.raises(ReleaseNotVerified, match=rf"too slow: p99 .* of {good.version}"):
        server.release("slow", exports / "slow", "run-2", latency_factor=1)  # on a loaded machine, both are slow
    assert server.answer("slow", "stable") == (0.1, good.version)
    assert server.release("slow", exports / "slow", "run-3", latency_factor=1e4).verification.p99_ms > 5


@pytest.mark.parametrize("api", ["classify", "regress"])
def test_a_version_must_answer_its_golden_examples_by_every_api_that_it_has(server, exports, tmp_path, api, caplog):
    caplog.set_level("INFO", "nightly")
    name = f"{api}_by_golden"
    good = server.release(name, model(tmp_path / "good", 0.2, apis={"classify": 0, "regress": 0}), "run-1")
    assert good.verification.largest_difference < 1e-6
    assert "answers as offline by serving_default, classify, regress (3 examples" in caplog.text
    with pytest.raises(ReleaseNotVerified, match=rf"by {api} over http://.* differ by 0\.00\d* from the offline"):
        server.release(name, model(tmp_path / "wrong", 0.3, apis={"classify": 0, "regress": 0, api: 2e-3}), "run-2")
    with pytest.raises(ReleaseNotVerified, match=rf"does not answer the golden requests by {api} over http://"):
        source = model(tmp_path / "without", 0.3)
        asked = Golden.load(model(tmp_path / "with", 0.3, apis={api: 0}) / GOLDEN)
        asked.save(source / GOLDEN)
        server.release(name, source, "run-3")
    assert server.answer(name, "stable") == (0.2, good.version)


def test_without_golden_predictions_there_is_nothing_to_verify_by(server, exports, tmp_path):
    source = model(tmp_path / "export", 0.1)
    (source / GOLDEN).unlink()
    with pytest.raises(ReleaseNotVerified, match="add_samples"):
        server.release("bare", source)
    assert server.store("bare").disk.released() == []


def test_a_label_of_a_persons_own_stays_while_its_version_is_loaded(server, exports):
    first = server.release("labelled", exports / "good1", "run-1")
    text = (server.paths.serving / live.FILE).read_text()
    stable = f'key: "stable"\n      value: {first.version}\n    }}'
    assert stable in text
    own = text.replace(stable, f'{stable}\n    version_labels {{ key: "shadow" value: {first.version} }}')
    server.grpc.reload_config(own)
    (server.paths.serving / live.FILE).write_text(own)
    second = server.release("labelled", exports / "good2", "run-2")
    assert server.labels("labelled") == {"stable": second.version, "shadow": first.version}
    third = server.release("labelled", exports / "good3", "run-3")
    assert server.labels("labelled") == {"stable": third.version}  # two are loaded: the first is gone


def test_a_canary_is_verified_and_labelled_and_the_stable_clients_notice_nothing(server, exports):
    name = "canaries"
    first = server.release(name, exports / "good1", "run-1", canary_share=0.1)
    assert (first.state, first.canary_share) == ("released", None), "there was nothing to compare the first one with"

    second = server.release(name, exports / "good2", "run-2", canary_share=0.1)

    assert second.state == "canary" and second.verification.golden_examples == 3 and second.canary_since
    assert server.labels(name) == {"stable": first.version, "canary": second.version}
    assert server.answer(name, "stable") == (0.1, first.version)
    assert server.answer(name, "canary") == (0.2, second.version)
    assert server.answer(name) == (0.2, second.version), "TensorFlow Serving's rule: without a label, the newest"
    assert server.store(name).disk.production() == first.version
    assert server.release(name, exports / "good2", "run-2", canary_share=0.1) == second
    with pytest.raises(CanaryRunning, match=f"canary {second.version} is being compared"):
        server.release(name, exports / "good3", "run-3", canary_share=0.1)

    live.write(server.paths, str(server.paths.serving))  # as before a start of the server
    assert server.labels(name) == {"stable": first.version, "canary": second.version}


def test_a_canary_that_fails_is_quarantined_and_its_label_goes(server, exports):
    name = "bad_canary"
    good = server.release(name, exports / "good1", "run-1")
    with pytest.raises(ReleaseNotVerified, match="golden"):
        server.release(name, exports / "wrong", "run-2", canary_share=0.5)
    assert server.store(name).disk.canary() is None and server.store(name).disk.production() == good.version
    assert server.labels(name) == {"stable": good.version}


def test_a_server_that_does_not_answer_is_found_out_before_anything_is_released(server, exports, monkeypatch):
    monkeypatch.setenv("NIGHTLY_SERVING_GRPC", "127.0.0.1:9")
    monkeypatch.setattr(verify, "REACH_SECONDS", 0.5)
    with pytest.raises(ServerNotReached, match="does not answer at grpc://127"):
        server.release("unreached", exports / "good1")
    assert server.store("unreached").disk.records() == []
    monkeypatch.delenv("NIGHTLY_SERVING_GRPC")
    with pytest.raises(ContractError, match="give both"):
        server.release("unreached", exports / "good1")
    monkeypatch.delenv("NIGHTLY_SERVING_REST")
    record = server.release("unreached", exports / "good1")
    assert (record.state, record.server, record.verification) == ("released", "", None)
    assert "by no model server" in "\n".join(describe(Path(record.path), record))


def test_a_server_that_is_not_run_from_our_file_is_left_alone(server, exports, tmp_path):
    elsewhere = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path)})
    of_another = find_server(elsewhere, "m", Release())
    with pytest.raises(ServerNotReached, match=r"`python -m nightly\.cli\.configure`"):
        of_another.check()


def test_the_server_of_another_project_that_has_the_recorded_port_is_left_alone(server, exports, tmp_path):
    version = server.release("shared_name", exports / "good1").version
    ours = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path)})
    ConfigurationFile(ours, "shared_name").serve(7, [7])
    before = (ours.serving / live.FILE).read_text()
    server_there = find_server(ours, "shared_name", Release())
    for act in (server_there.check, lambda: server_there.serve(7, [7])):
        with pytest.raises(ServerNotReached, match=f"shared_name {version}, which is not in .* another project's"):
            act()
    assert (ours.serving / live.FILE).read_text() == before
    assert server.answer("shared_name", "stable") == (0.1, version)


DYING = """
import os, signal, sys
from pathlib import Path
from nightly.records.config import Release
from nightly.io.paths import Paths
from nightly.release.store import ReleaseStore
from nightly.serving import server, verify
from tests.support.releases import origin

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

where, name, source, run_id = sys.argv[1:]
if where == "while it waits for the server":
    verify.wait_until_available = die
if where == "after the golden predictions":
    verify.compare_latency = die
if where == "between file and reload":
    server.RunningServer._ask = die
paths = Paths.from_environment()
server = server.find_server(paths, name, Release(timeout_seconds=30))
store = ReleaseStore(paths.serving, paths.releases, name)
if where == "when stable is moved":
    serve = server.serve
    server.serve = lambda *given: (serve(*given), die())
store.release(Path(source), origin(run_id), server=server)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        "while it waits for the server",
        "after the golden predictions",
        "between file and reload",
        "when stable is moved",
    ],
)
def test_a_release_that_is_killed_is_completed_by_its_retry_or_taken_back_by_another_run(server, exports, where):
    name = "killed_" + where.replace(" ", "_")
    first = server.release(name, exports / "good1", "run-1")
    store = server.store(name)

    def killed(source: str, run_id: str) -> None:
        command = [sys.executable, "-c", DYING, where, name, str(exports / source), run_id]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": python_path()}, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert store.disk.records()[-1].state == "verifying"

    killed("good2", "run-2")
    assert store.disk.production() == first.version, "what is not verified is not in production"
    second = server.release(name, exports / "good2", "run-2")
    assert second.state == "released" and len(store.disk.records()) == 2
    assert server.answer(name, "stable") == (0.2, second.version)

    killed("good3", "run-3")
    fourth = server.release(name, exports / "good4", "run-4")
    assert [record.state for record in store.disk.records()] == ["released", "released", "unverified", "released"]
    assert fourth.previous_version == second.version
    assert server.answer(name, "stable") == (0.4, fourth.version)


def test_the_live_file_is_written_as_the_records_say(server, exports):
    server.release("written", exports / "good1")
    before = live.LiveConfig(server.paths.serving, "").read()
    live.write(server.paths, str(server.paths.serving))
    after = live.LiveConfig(server.paths.serving, "").read()
    assert {e.name: dict(e.version_labels) for e in after.model_config_list.config}["written"] == server.labels(
        "written"
    )
    assert {e.name for e in before.model_config_list.config} <= {e.name for e in after.model_config_list.config}


def test_a_release_can_be_inspected_and_asked(server, tmp_path, capsys):
    record = server.release("looked_at", model(tmp_path / "export", 0.1, apis={"classify": 0, "regress": 4.5e-6}))
    assert show.main(["looked_at", "--golden"]) == 0
    shown = capsys.readouterr().out
    for part in (
        f"looked_at {record.version}: released",
        "by the server at grpc://127.0.0.1",
        "serving_default  (tensorflow/serving/predict)",
        "string (None,)",
        "float32 (None, 1)",
        GOLDEN,
        "x=2.5",
        "largest difference by serving_default",
        "largest difference by classify",
        "largest difference by regress 4.",  # and not 1e-8
    ):
        assert part in shown, shown
    (tmp_path / "request.json").write_text(json.dumps({"instances": [{"b64": ""}]}))
    assert show.main(["looked_at", str(record.version), "--input", str(tmp_path / "request.json")]) == 2
    assert "x" in capsys.readouterr().err
    assert show.main(["never_released"]) == 2
    assert "nothing was released for 'never_released'" in capsys.readouterr().err
