"""A task that is ended takes the step's processes with it; a step's error is kept for the verdict."""

import datetime as dt
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from nightly.io.polling import poll
from nightly.records.night import GateResult, StepError, utc_now
from nightly_airflow.hooks.ml import MLProcessDied, MLStepFailed
from nightly_airflow.operators.ml import MLStepOperator, ReleaseOperator

CONTEXT = {"ti": SimpleNamespace(try_number=2)}


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Makes an operator whose step behaves as it is told."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    monkeypatch.setenv("NIGHTLY_ML_PYTHON", str(Path(__file__).parents[2] / "support/scripted_ml.py"))
    monkeypatch.setenv("NIGHTLY_WARM", "0")

    def make(how: str, kind=MLStepOperator, task_id="trainer"):
        monkeypatch.setenv("NIGHTLY_TEST_SCRIPT", json.dumps({task_id: how}))
        operator = kind(task_id=task_id, model="taxi", run_id="tonight", execution_timeout=dt.timedelta(hours=1))
        operator.allow_nested_operators = True  # lets a test call execute itself
        operator.folder.mkdir(parents=True)
        return operator

    return make


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_the_step_is_named_after_the_task_and_can_be_templated():
    operator = MLStepOperator(task_id="again", step="trainer", model="taxi")
    assert operator.step == "trainer" and operator.template_fields == ("model", "run_id", "step")
    operator.render_template_fields({"run_id": "tonight"})
    assert operator.run_id == "tonight"


def test_on_kill_ends_the_step_and_its_children(step):
    operator = step("hang")
    pids = operator.folder / "pids"
    errors = []

    def run():
        try:
            operator.perform(CONTEXT)
        except MLProcessDied as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    started = poll(lambda: pids.exists() and " " in pids.read_text(), every=0.05, seconds=120)
    operator.on_kill()
    thread.join(timeout=20)

    assert started, "the step did not start its child"
    assert errors and not any(alive(int(pid)) for pid in pids.read_text().split())
    assert os.getpid()  # and not us


def test_an_error_is_kept_for_the_verdict_and_forgotten_when_the_task_runs_again(step, monkeypatch):
    operator = step("fail")
    with pytest.raises(MLStepFailed):
        operator.execute(CONTEXT)
    kept = StepError.load(operator.folder / "trainer.error.json")
    assert (kept.message, kept.try_number) == ("ValueError: trainer met a column it does not know", 2)

    monkeypatch.setenv("NIGHTLY_TEST_SCRIPT", "{}")
    operator.execute(CONTEXT)
    assert not (operator.folder / "trainer.error.json").exists()


def test_a_time_out_says_how_long_it_was(step, monkeypatch):
    operator = step("")
    monkeypatch.setattr(operator.hook, "run", lambda *_: (_ for _ in ()).throw(AirflowTaskTimeout("Timeout, PID: 1")))
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(CONTEXT)
    assert "after 1:00:00" in StepError.load(operator.folder / "trainer.error.json").message


def test_a_release_behind_a_closed_gate_is_refused_even_when_somebody_ran_it_by_hand(step):
    operator = step("", ReleaseOperator, "release")
    for name, passed in (("data", True), ("model", False)):
        gate = GateResult(gate=name, passed=passed, reasons=[], decided_at=utc_now())
        gate.save(operator.folder / f"{name}_gate.json")
    with pytest.raises(AirflowFailException, match="the model gate held this night"):
        operator.perform(CONTEXT)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MLStepFailed("ReleaseNotVerified: golden predictions differ", retry=False), AirflowFailException),
        (MLStepFailed("NotVerifiedYet: the server does not answer"), MLStepFailed),
    ],
)
def test_a_refused_version_is_not_tried_again_and_one_that_could_not_be_verified_is(step, monkeypatch, error, kind):
    operator = step("", ReleaseOperator, "release")
    for name in ("data", "model"):
        gate = GateResult(gate=name, passed=True, reasons=[], decided_at=utc_now())
        gate.save(operator.folder / f"{name}_gate.json")
    night = SimpleNamespace(model="taxi", release=True, run_id="tonight", folder=lambda paths: operator.folder)
    monkeypatch.setattr(ReleaseOperator, "night", lambda self: night)
    monkeypatch.setattr(operator.hook, "run", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(kind, match=str(error)):
        operator.perform(CONTEXT)
