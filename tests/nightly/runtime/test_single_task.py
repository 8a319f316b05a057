"""One task of a night at a time: a night that has ended is not continued, and the verdict says how it ended."""

import datetime as dt

import pytest

from nightly.cli import pipeline
from nightly.nights.plan import RunRequest
from nightly.records.base import ContractError
from nightly.records.night import GateResult, Night, SnapshotRef, utc_now
from nightly.records.verdict import Outcome
from nightly.runtime import single_task
from nightly.runtime.single_task import NoSuchNightError, OutputRef, TaskEnd

AS_OF = dt.datetime(2014, 2, 1, tzinfo=dt.UTC)


def request(**changed):
    fields = {"run_id": "run", "trigger": "command", "requested_by": "me", "time": AS_OF, "release": False}
    return RunRequest(**fields | changed)


def run(task, outputs=None, **changed):
    return single_task.run(task, request(**changed), "taxi", outputs or {})


def ended(paths, task, state="success", ends_night=False):
    TaskEnd(task=task, state=state, ends_night=ends_night).save(paths.night("taxi", "run") / TaskEnd.FILE.format(task))


@pytest.fixture
def planned(paths):
    run("plan")
    return paths


def test_a_retried_plan_keeps_the_first(planned):
    file = planned.night("taxi", "run") / "request.json"
    before = file.read_text()
    run("plan", release=True)
    assert file.read_text() == before
    assert Night.load(file).as_of == AS_OF


def test_a_task_of_a_night_without_a_plan_is_refused(paths):
    with pytest.raises(NoSuchNightError, match=r"request.json does not exist: run `plan` of run first"):
        run("download")


def test_after_a_gate_has_held_the_tasks_are_skipped_and_the_verdict_is_held(planned, tmp_path):
    for task in ("download", "snapshot", "examples", "schema", "statistics", "example_validator", "drift_skew"):
        ended(planned, task)
    reason = {"check": "min_rows", "subject": "", "figure": 3, "threshold": 600, "held": True, "message": "3 rows"}
    gate = GateResult(gate="data", passed=False, reasons=[reason], decided_at=utc_now())
    gate.save(planned.night("taxi", "run") / "data_gate.json")
    ended(planned, "data_gate", ends_night=True)
    for task in ("transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"):
        run(task, {"output": tmp_path / task})
        assert OutputRef.load(tmp_path / task).content == ""
    verdict = run("verdict")
    assert verdict.outcome is Outcome.HELD_DATA
    assert pipeline.main(["run", "verdict", "--model", "taxi", "--run", "run"]) == 0


def test_a_failed_task_is_recorded_and_the_verdict_quotes_it(planned, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", "file:///nowhere")
    ended(planned, "download")
    assert pipeline.main(["run", "snapshot", "--model", "taxi", "--run", "run"]) == 1  # there is no download.json
    verdict = run("verdict")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "snapshot")
    assert "download.json" in verdict.error
    assert pipeline.main(["run", "verdict", "--model", "taxi", "--run", "run"]) == 1


def test_a_plan_that_is_refused_is_recorded_and_may_be_retried(paths):
    with pytest.raises(ContractError):
        run("plan", as_of="2999-01-01")
    verdict = run("verdict")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "plan")
    assert verdict.error.startswith("as_of 2999-01-01 is in the future")
    run("plan")
    assert TaskEnd.load(paths.night("taxi", "run") / TaskEnd.FILE.format("plan")).state == "success"


def test_a_task_whose_container_was_killed_is_named(planned):
    ended(planned, "download")
    verdict = run("verdict")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "snapshot")
    assert "left no result" in verdict.summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "trane", "--model", "taxi", "--run", "r"], "have no task 'trane'; did you mean"),
        (["run", "plan", "--model", "taxy", "--run", "r"], "there is no model 'taxy'"),
        (["run", "plan", "--model", "taxi", "--run", "r", "--as-of", "May"], "as_of 'May' is not a date"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(paths, capsys, arguments, message):
    assert pipeline.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (paths.nights / "taxi/r/request.json").exists()


@pytest.mark.integration
def test_with_the_state_in_a_bucket_a_task_needs_nothing_of_another_ones_disk(hosts, tmp_path):
    for task in ("plan", "download", "snapshot"):
        run(task)
        hosts.lose("A")  # each container begins with an empty disk
    with hosts.session("A") as paths:
        folder = paths.night("taxi", "run")
        assert SnapshotRef.load(folder / "snapshot.json").rows > 1000
        assert [
            TaskEnd.load(folder / TaskEnd.FILE.format(task)).state for task in ("plan", "download", "snapshot")
        ] == ["success"] * 3
        ended(paths, "examples", ends_night=True)
    hosts.lose("A")
    run("transform", {"transform_graph": tmp_path / "graph"})
    assert OutputRef.load(tmp_path / "graph").content == ""
    hosts.lose("A")
    verdict = run("verdict")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "schema")  # it was never started
