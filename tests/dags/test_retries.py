"""Tasks whose work is done when Airflow's API does not answer: they run again, and nothing happens twice."""

from pathlib import Path

import httpx
import pytest
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowTaskTimeout

from nightly.records.night import Night, StepError
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow.hooks.ml import MLInfrastructureFailed, MLProcessDied, MLStepFailed
from nightly_airflow.operators.ml import GateOperator, MLStepOperator
from nightly_airflow.operators.plan import PlanOperator
from nightly_airflow.operators.review import DataGateOperator
from nightly_airflow.operators.verdict import VerdictOperator
from nightly_airflow.retrain import retrain_dag
from tests.support.dag_runs import skipped, told

pytestmark = pytest.mark.slow

BEHIND_THE_DATA_GATE = {"transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"}


def test_a_plan_is_made_again(run_night, lose):
    calls = lose(PlanOperator, "post_execute")
    state, note, _, folder = run_night(as_of="2016-01-02", train_steps=7)
    assert (state, calls) == ("success", ["plan", "plan"]) and note.startswith("**✓ RELEASED")
    assert Night.load(folder / "request.json").train_steps == 7
    assert not (folder / "plan.error.json").exists()


@pytest.mark.parametrize("gate", ["data_gate", "model_gate"])
def test_a_gate_that_passes_twice_lets_the_night_go_on(run_night, lose, gate):
    lose(GateOperator, "reason_to_stop")
    state, note, states, _ = run_night()
    assert state == "success" and skipped(states) == set() and note.startswith("**✓ RELEASED")


def test_a_data_gate_that_holds_twice_skips_what_is_behind_it(run_night, lose, slack):
    calls = lose(DataGateOperator, "skip")
    state, _, states, folder = run_night({"data_gate": "hold"})
    assert (state, calls) == ("success", ["data_gate", "data_gate"])
    assert skipped(states) == BEHIND_THE_DATA_GATE
    verdict = Verdict.load(folder / "verdict.json")
    assert verdict.outcome is Outcome.HELD_DATA and len([one for one in verdict.reasons if one.held]) == 2
    assert "HELD_DATA" in told(slack)


def test_a_model_gate_that_holds_twice_skips_the_release(run_night, lose):
    lose(GateOperator, "skip")
    _, note, states, _ = run_night({"model_gate": "hold"})
    assert skipped(states) == {"release"} and note.startswith("**! HELD_MODEL")


def test_a_verdict_that_is_given_twice_is_told_once(run_night, lose, slack):
    calls = lose(VerdictOperator, "post_execute", times=2)
    state, note, states, _ = run_night({"data_gate": "hold"})
    assert (state, states["verdict"], calls) == ("success", "success", ["verdict"] * 3)
    assert note.count("HELD_DATA") == 1 and "HELD_DATA" in told(slack)  # which takes one message


def test_a_task_that_never_begins_is_told_with_its_tries_and_what_to_do(run_night, lose):
    calls = lose(PlanOperator, "pre_execute", times=5)
    state, _, states, folder = run_night()
    assert (state, states["plan"], states["verdict"], len(calls)) == ("failed", "failed", "failed", 5)
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "plan")
    assert "it is failed after try 5 of 5 and left no message" in verdict.summary
    assert "Its last try that began ran for 0:00:" in verdict.summary
    assert "clear plan with everything downstream" in verdict.error


def test_every_task_is_retried_for_errors_of_the_infrastructure():
    from airflow.dag_processing.dagbag import DagBag

    rollback = DagBag(str(Path(__file__).parents[2] / "dags/rollback.py")).dags["rollback"]
    for dag in (retrain_dag("taxi"), rollback):
        assert {task.task_id: task.retries for task in dag.tasks if task.retries < 3} == {}


@pytest.mark.parametrize(("step", "tries"), [("trainer", 2), ("model_gate", 3)])
def test_a_step_that_fails_by_itself_is_retried_less_often(run_night, step, tries):
    _, _, states, folder = run_night({step: "fail"})
    assert states[step] == "failed"
    assert StepError.load(folder / f"{step}.error.json").try_number == tries


class Store(dict):
    """Stands where Airflow's task state store does, which outlasts a try."""

    set = dict.__setitem__


COLUMN = MLStepFailed("a column")
BUCKET = MLInfrastructureFailed("the bucket")
API = httpx.ConnectError("Connection refused")
DISK = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("errors", "fails"),
    [
        ([COLUMN], False),
        ([COLUMN, COLUMN], True),
        ([COLUMN, MLProcessDied("killed")], True),
        ([AirflowTaskTimeout(), AirflowTaskTimeout()], True),
        ([BUCKET, API, MLProcessDied("killed")], False),  # the first of its own
        ([None, None, COLUMN], False),  # two tries were lost before the task's code ran
        ([COLUMN, BUCKET, COLUMN], True),
        ([API, API, API, DISK], False),
    ],
)
def test_only_a_steps_own_errors_end_the_retries(errors, fails):
    context, task = {"task_state_store": Store()}, retrain_dag("taxi").get_task("trainer")
    decisions = [
        task.retry_policy.evaluate(error, number, 4, context) for number, error in enumerate(errors, 1) if error
    ]
    *earlier, last = [decision.action is RetryAction.FAIL for decision in decisions]
    assert (any(earlier), last) == (False, fails)


def test_the_errors_of_a_step_count_anew_after_it_was_cleared():
    context, policy = {"task_state_store": Store()}, retrain_dag("taxi").get_task("trainer").retry_policy
    tries = [(1, 4), (2, 4), (3, 6), (3, 6), (4, 6)]  # the third is judged twice, as when Airflow's API fails then
    failed = [policy.evaluate(COLUMN, number, most, context).action is RetryAction.FAIL for number, most in tries]
    assert failed == [False, True, False, False, True]


def test_tries_that_are_lost_to_the_api_leave_a_step_its_own(run_night, lose):
    calls = lose(MLStepOperator, "check", times=2)
    _, _, states, folder = run_night({"trainer": "fail"})
    assert states["trainer"] == "failed" and calls.count("trainer") == 4
    assert StepError.load(folder / "trainer.error.json").try_number == 4
