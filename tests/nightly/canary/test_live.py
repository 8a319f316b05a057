"""Whole comparisons: releases to a real server, the real client's callers and log, labels that come later, the end."""

from pathlib import Path

import numpy as np
import pytest

from nightly.baselines import accept
from nightly.canary import decide as module
from nightly.canary.decide import compare, compare_step, decide_step
from nightly.cli.releases import main
from nightly.models import load_config
from nightly.records.baseline import Baseline
from nightly.records.canary import COMPARISON, CanaryRequest, Comparison
from nightly.records.config import ModelConfig
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord
from nightly.release.comparisons import comparisons
from nightly.release.errors import ReleaseError, ServerNotReached, WithdrawnError
from nightly.serving import verify
from nightly_client import Canary as ClientCanary
from nightly_client import Client, PredictionLog, example

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARE, CALLERS, EACH = 0.3, 500, 5
TRUE = 0.3  # the probability is x / 10 + this, as `good3` says; `good1` says 0.2 less, which costs 0.04


@pytest.fixture(autouse=True)
def canaries(monkeypatch):
    """Every model has a config of taxi's with a canary, and its labels come as files."""

    def config(name: str) -> ModelConfig:
        taxi = load_config("taxi").model_dump()
        taxi["release"]["canary"] = {"share": SHARE, "margin": 0.02, "labels": ["feedback"]}
        return ModelConfig.parse(taxi, where="test").model_copy(update={"name": name})

    monkeypatch.setattr(module, "load_config", config)


def began(server, exports: Path, name: str, stable: str, canary: str) -> tuple[ReleaseRecord, ReleaseRecord]:
    first = server.release(name, exports / stable, "run-1")
    return first, server.release(name, exports / canary, "run-2", canary_share=SHARE)


def traffic(server, name: str, callers: int = CALLERS) -> None:
    """Callers ask as they would: each is given a side by the client, for good, and the log says who answered."""
    random = np.random.default_rng(7)
    log = PredictionLog(server.paths.predictions / name, format="jsonl", key="sixteen bytes and more")
    labels = ["id,label"]
    with log, Client(server.grpc.address, canary=ClientCanary(SHARE, "test"), log=log) as client:
        for caller in range(callers):
            xs = random.uniform(0, 3, EACH)
            ids = [f"{caller}:{number}" for number in range(EACH)]
            rows = [example({"x": float(x)}).SerializeToString() for x in xs]
            client.predict(name, rows, caller=f"user-{caller}", ids=ids)
            happened = random.random(EACH) < xs / 10 + TRUE
            labels += [f"{each},{int(yes)}" for each, yes in zip(ids, happened, strict=True)]
    later = server.paths.feedback / name / "labels.csv"
    later.parent.mkdir(parents=True, exist_ok=True)
    later.with_name(".later.csv").write_text("\n".join(labels))


def labels_come(server, name: str) -> None:
    folder = server.paths.feedback / name
    (folder / ".later.csv").rename(folder / "labels.csv")


def run(server, name: str, run_id: str, decision: str = "auto", reason: str = "") -> Comparison:
    """As the DAG does it: two steps on the run's folder."""
    folder = server.paths.night(name, run_id)
    asked = CanaryRequest(model=name, decision=decision, reason=reason, requested_by="ada", run_id=run_id)
    asked.save(folder / CanaryRequest.FILE)
    compare_step(folder, server.paths)
    return Comparison.parse(decide_step(folder, server.paths), where="test")


def test_a_better_canary_is_promoted_when_its_labels_have_come(server, exports):
    name = "better"
    stable, canary = began(server, exports, name, "good1", "good3")
    traffic(server, name)

    first = run(server, name, "night-1")
    assert first.decision == "" and first.looks[0].decision == "wait"
    assert (first.looks[0].canary.labelled, first.looks[0].stable.version) == (0, stable.version)
    assert server.answer(name, "stable") == (0.1, stable.version)

    labels_come(server, name)
    done = run(server, name, "night-2")

    assert (done.decision, done.decided_by, len(done.looks)) == ("promote", COMPARISON, 2) and done.done_at
    look = done.looks[-1]
    assert look.canary.labelled == look.canary.logged >= 500 and look.warnings == []
    assert look.canary.labelled + look.stable.labelled == CALLERS * EACH
    assert look.high < 0 and look.difference == pytest.approx(-0.04, abs=0.02)
    assert server.store(name).disk.production() == canary.version and server.store(name).disk.canary() is None
    assert server.answer(name, "stable") == (0.3, canary.version) and server.labels(name) == {"stable": canary.version}
    assert run_again(server, name, "night-2") == done, "a retry of the same run"
    assert compare(server.paths, name) is None
    assert server.release(name, exports / "good4", "run-3").previous_version == canary.version


def run_again(server, name: str, run_id: str) -> Comparison:
    return Comparison.parse(decide_step(server.paths.night(name, run_id), server.paths), where="test")


def test_a_worse_canary_is_stopped_and_never_released_again_and_its_callers_are_answered_on(
    server, exports, tmp_path, capsys
):
    name = "worse"
    stable, canary = began(server, exports, name, "good3", "good1")
    (tmp_path / "statistics").mkdir()
    for day, record in enumerate((stable, canary)):
        when = record.released_at.replace(year=2016, month=1, day=1 + day)
        baseline = Baseline(
            model=name, run_id=record.run_id, as_of=when, snapshot_id=record.run_id, accepted_at=utc_now()
        )
        accept(server.paths.baselines, baseline, tmp_path / "statistics")
    traffic(server, name)
    labels_come(server, name)
    assert main(["canary", name]) == 0  # what the next look will do, in its words
    shown = capsys.readouterr().out
    assert comparisons(server.paths, name) == [] and server.store(name).disk.canary() == canary

    done = run(server, name, "night-1")

    assert f"TO BE STOPPED: canary {name} {canary.version}: {done.reason}; " in shown and "WAITING" not in shown
    assert done.decision == "stop" and done.looks[0].low > 0 and done.baselines == [canary.run_id]
    record = server.store(name).disk.record(canary.version)
    assert record.state == "quarantined" and "surely worse" in record.why
    assert server.store(name).disk.production() == stable.version and server.labels(name) == {"stable": stable.version}
    with Client(server.grpc.address, canary=ClientCanary(1.0)) as client:  # every caller would get the canary
        answered = client.predict(name, [example({"x": 0.0}).SerializeToString()], caller="any")
    assert (answered.version, answered.label) == (stable.version, "stable")
    with pytest.raises(WithdrawnError, match="surely worse"):
        server.release(name, exports / "good1", "run-2", canary_share=SHARE)
    assert server.release(name, exports / "good4", "run-3", canary_share=SHARE).state == "canary"


def test_a_person_decides_before_it_is_clear_and_the_command_says_how_it_stands(server, exports, capsys):
    name = "by_hand"
    _, canary = began(server, exports, name, "good1", "good2")
    traffic(server, name, callers=60)
    labels_come(server, name)

    assert main(["canary", name]) == 0
    shown = capsys.readouterr().out
    assert "WAITING" in shown and "300 from feedback" in shown and str(canary.version) in shown
    assert main(["canary", name, "promote"]) == 2
    assert "a reason is required to promote" in capsys.readouterr().err
    assert server.store(name).disk.canary() is not None
    assert main(["canary", name, "promote", "--reason", "the old one cannot be kept"]) == 0
    assert "PROMOTED" in capsys.readouterr().out
    [kept] = comparisons(server.paths, name)
    assert kept.decision == "promote" and kept.reason == "the old one cannot be kept" and len(kept.looks) == 1
    assert server.answer(name, "stable") == (0.2, canary.version)
    assert main(["canary", name]) == 0 and "has no canary" in capsys.readouterr().out
    assert main(["canary", name, "stop", "--reason", "too late"]) == 2
    assert "no canary any more" in capsys.readouterr().err


def test_a_decision_that_died_half_way_is_completed_by_the_next_run(server, exports, monkeypatch):
    name = "died"
    began(server, exports, name, "good1", "good2")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", die)  # promoted, and the record of it not written
    with pytest.raises(KeyboardInterrupt):
        run(server, name, "night-1", "promote", "it is as good")
    assert server.store(name).disk.canary() is None and comparisons(server.paths, name)[0].done_at is None

    monkeypatch.undo()
    monkeypatch.setattr(module, "load_config", lambda _: load_config("taxi"))
    done = run(server, name, "night-2")
    assert done.done_at and (done.decision, done.reason) == ("promote", "it is as good")


def test_a_decision_that_a_person_overrules_stays_on_record(server, exports, monkeypatch):
    name = "overruled"
    began(server, exports, name, "good1", "good2")
    with monkeypatch.context() as away:
        away.setattr(verify, "REACH_SECONDS", 1.0)
        away.setenv("NIGHTLY_SERVING_GRPC", "127.0.0.1:9")
        with pytest.raises(ServerNotReached):
            run(server, name, "night-1", "promote", "it is as good")

    done = run(server, name, "night-2", "stop", "it is not")

    assert (done.decision, done.reason) == ("stop", "it is not") and done.done_at
    assert [(d.decision, d.reason, d.decided_by) for d in done.earlier] == [("promote", "it is as good", "ada")]
    assert comparisons(server.paths, name) == [done]


def test_a_stop_while_the_server_is_down_is_done_on_disk_and_confirmed_by_its_retry(server, exports, monkeypatch):
    name = "down"
    stable, canary = began(server, exports, name, "good1", "good2")
    monkeypatch.setattr(verify, "REACH_SECONDS", 1.0)
    server.stop()
    with pytest.raises(ServerNotReached, match="quarantined on disk"):
        run(server, name, "night-1", "stop", "complaints came")
    assert server.store(name).disk.record(canary.version).state == "quarantined"
    assert server.labels(name) == {"stable": stable.version}, "the server's next start reads this"

    server.start()
    done = run_again(server, name, "night-1")
    assert done.done_at and server.answer(name, "stable") == (0.1, stable.version)


def test_without_a_canary_there_is_nothing_to_decide(server, exports):
    name = "none"
    server.release(name, exports / "good1", "run-1")
    folder = server.paths.night(name, "night-1")
    CanaryRequest(model=name, decision="stop", reason="why not", requested_by="ada").save(folder / CanaryRequest.FILE)
    assert compare_step(folder, server.paths) == {"unfinished": False}
    with pytest.raises(ReleaseError, match="no canary any more"):
        decide_step(folder, server.paths)
