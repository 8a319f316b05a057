"""Nights whose state is in a bucket, each task on another host: hosts share no disk, and have the same paths."""

import datetime as dt
import errno
import itertools
import json
from importlib import import_module
from pathlib import Path

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from sqlalchemy import select

from nightly.io.paths import ROOT, Paths
from nightly.io.space import SpaceError
from nightly.records.night import StepError
from nightly.records.verdict import Outcome
from nightly.state import current
from nightly.state.bucket import BucketState
from nightly.state.errors import ChangedElsewhereError, StateNotReachedError, StateRefusedError
from nightly_airflow.hooks import ml
from nightly_airflow.hooks.ml import MLInfrastructureFailed
from nightly_airflow.missing_verdicts import give_verdict
from nightly_airflow.operators.base import ERROR_KEY, NightOperator, notified_mark, notify_once
from nightly_airflow.operators.verdict import VerdictOperator
from nightly_airflow.retrain import retrain_dag
from nightly_airflow.web.records import Records
from tests.support.dag_runs import told


@pytest.fixture
def changing_hosts(move, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each task run on the other of two hosts; return the tasks, in that order."""
    hosts, tasks = itertools.cycle("ab"), []
    in_session = NightOperator.in_session

    def on_the_next_host(operator, *arguments):
        move(next(hosts))
        tasks.append(operator.task_id)
        return in_session(operator, *arguments)

    monkeypatch.setattr(NightOperator, "in_session", on_the_next_host)
    return tasks


@pytest.fixture
def night(database, bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the taxi DAG once, with scripted steps; returns the tasks' states."""
    monkeypatch.setenv("NIGHTLY_ML_PYTHON", str(ROOT / "tests/support/scripted_ml.py"))
    monkeypatch.setenv("NIGHTLY_WARM", "0")

    def night(script: dict[str, str] | None = None) -> dict[str, str]:
        monkeypatch.setenv("NIGHTLY_TEST_SCRIPT", json.dumps(script or {}))
        dag = retrain_dag("taxi")
        for task in dag.tasks:
            task.retry_delay = dt.timedelta()
        return {task.task_id: task.state for task in dag.test().get_task_instances()}

    return night


class Task:
    """The part of a task's instance that an operator uses outside Airflow."""

    try_number, max_tries = 1, 4

    def __init__(self) -> None:
        self.pushed: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed[key] = value


def operator(task_id: str = "trainer") -> NightOperator:
    return NightOperator(task_id=task_id, model="taxi", run_id="night")


def raising(error: BaseException):
    def work(context):
        raise error

    return work


def folder_of(host: BucketState) -> Path:
    return host.view("taxi").nights / "taxi/night"


def fresh_view() -> Path:
    """Return the night's folder as a host sees it that has not looked before."""
    return folder_of(BucketState(current().objects.address))


# --- whole nights


@pytest.mark.slow
def test_a_night_of_which_each_task_runs_on_another_host_is_whole_and_shown_by_a_third(night, changing_hosts, move):
    states = night()
    assert set(states.values()) <= {"success", "skipped"} and states["release"] == "success"
    assert len(changing_hosts) >= 14
    move("c")
    records = Records()
    [record] = records.nights("taxi")
    assert record.verdict.outcome is Outcome.RELEASED
    details = records.night("taxi", record.name)
    assert details.data_gate.passed and details.model_gate.passed and details.release.version == 1480000000


@pytest.mark.slow
def test_a_step_that_is_killed_leaves_its_report_to_a_verdict_on_another_host(night, changing_hosts, slack, move):
    states = night({"trainer": "die"})
    assert (states["trainer"], states["verdict"]) == ("failed", "failed")
    assert "SIGKILL" in told(slack)
    move("c")
    [record] = Records().nights("taxi")
    assert record.verdict.failed_task == "trainer" and "SIGKILL" in record.verdict.error


@pytest.mark.slow
def test_a_verdict_that_is_given_again_on_another_host_is_told_once(night, changing_hosts, lose, slack):
    lose(VerdictOperator, "post_execute", times=2)
    night({"data_gate": "hold"})
    assert changing_hosts.count("verdict") == 3
    assert "HELD_DATA" in told(slack)  # which takes one message


@pytest.mark.slow
def test_a_bucket_that_is_away_for_two_tries_of_a_step_costs_a_night_nothing(night, bucket, monkeypatch, caplog):
    monkeypatch.setattr("nightly.state.objects.RETRY_SECONDS", 1)
    in_session, tries = NightOperator.in_session, []

    def away(operator, *arguments):
        tries.append(operator.task_id)
        with monkeypatch.context() as patch:
            if operator.task_id == "trainer" and tries.count("trainer") <= 2:
                patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            import_module("nightly.state.current")._bucket.cache_clear()
            return in_session(operator, *arguments)

    monkeypatch.setattr(NightOperator, "in_session", away)
    states = night()
    assert tries.count("trainer") == 3 and states["release"] == "success"
    assert Records().nights("taxi")[0].verdict.outcome is Outcome.RELEASED


@pytest.mark.slow
def test_a_verdict_that_never_began_is_given_by_a_scheduler_on_another_host(night, lose, changing_hosts, move):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    lose(VerdictOperator, "pre_execute", times=9)
    assert night({"data_gate": "hold"})["verdict"] == "failed"
    move("scheduler")
    with create_session() as session:
        run = session.scalars(select(DagRun).order_by(DagRun.id.desc())).first()
        give_verdict(run, session)
    move("c")
    assert Records().nights("taxi")[0].verdict.outcome is Outcome.HELD_DATA


# --- one task


def test_a_step_works_in_its_tasks_session_and_the_warm_host_in_none(tmp_path, monkeypatch):
    environments = []
    monkeypatch.setenv("NIGHTLY_SESSION", str(tmp_path))
    monkeypatch.setenv("NIGHTLY_RUN", str(tmp_path))
    monkeypatch.setattr(ml, "start", lambda command, *, environment, **_: environments.append(environment))
    ml.MLHook()._spawn_host()
    assert ml._environment()["NIGHTLY_SESSION"] == str(tmp_path)
    assert "NIGHTLY_SESSION" not in environments[0]


def test_a_task_that_is_killed_on_the_second_host_has_no_error_of_its_first_try(bucket, move, monkeypatch):
    move("a")
    with pytest.raises(ValueError):
        operator().run_recording_errors(raising(ValueError("a column")), {"ti": Task()})
    assert StepError.load(fresh_view() / "trainer.error.json").message == "a column"

    move("b")
    monkeypatch.setattr(BucketState, "_commit", lambda *_: None)  # what a killed process does
    with pytest.raises(KeyboardInterrupt):
        operator().run_recording_errors(raising(KeyboardInterrupt()), {"ti": Task()})
    assert not (fresh_view() / "trainer.error.json").exists()


def test_a_notification_is_sent_once_whichever_host_tries_again(bucket, move):
    sent = []
    for host in "ab":
        move(host)
        with current().session("taxi") as paths:
            notify_once(lambda: sent.append(1), notified_mark(paths.night("taxi", "night"), "verdict", 4))
    assert len(sent) == 1


def test_a_change_by_another_host_fails_the_task_as_an_error_of_the_infrastructure(bucket, move, tmp_path, monkeypatch):
    def work(context):
        (task.folder / "plan.json").write_text("{}")
        with monkeypatch.context() as other:
            other.setenv("NIGHTLY_VAR", str(tmp_path / "other"))
            other.delenv("NIGHTLY_SESSION")
            with BucketState(current().objects.address).session("taxi") as paths:
                paths.night("taxi", "night").mkdir(parents=True)
                (paths.night("taxi", "night") / "plan.json").write_text('{"of": "the other"}')

    task, instance = operator("plan"), Task()
    monkeypatch.setattr(type(task), "folder", property(lambda self: _made(self.paths.night("taxi", "night"))))
    with pytest.raises(ChangedElsewhereError) as raised:
        task.run_recording_errors(work, {"ti": instance})
    assert "plan.json was changed by another host" in instance.pushed[ERROR_KEY]
    assert retries_after(raised.value)


@pytest.mark.parametrize("signal", [AirflowSkipException("held"), TaskDeferred(trigger=None, method_name="resume")])
def test_a_task_that_is_skipped_or_deferred_fails_if_its_records_cannot_be_published(bucket, monkeypatch, signal):
    def commit(*_):
        raise StateNotReachedError("the bucket does not answer")

    monkeypatch.setattr(BucketState, "_commit", commit)
    instance = Task()
    with pytest.raises(StateNotReachedError):
        operator("data_gate").run_recording_errors(raising(signal), {"ti": instance})
    assert instance.pushed[ERROR_KEY] == "the bucket does not answer"


@pytest.fixture
def away(bucket, monkeypatch: pytest.MonkeyPatch):
    """Lets the bucket take nothing from now on."""

    def away() -> None:
        def push(*_):
            raise StateNotReachedError("the bucket does not answer")

        monkeypatch.setattr("nightly.state.records.Copy._push_changes", push)

    return away


def test_an_error_that_the_bucket_does_not_take_is_in_xcom(away):
    def work(context):
        away()
        raise ValueError("a column")

    instance = Task()
    with pytest.raises(ValueError):
        operator().run_recording_errors(work, {"ti": instance})
    assert instance.pushed == {ERROR_KEY: "a column"}


def test_a_retry_that_cannot_remove_the_error_of_the_first_try_has_one_of_its_own(away):
    first, second = Task(), Task()
    with pytest.raises(ValueError):
        operator().run_recording_errors(raising(ValueError("a column")), {"ti": first})
    away()
    with pytest.raises(StateNotReachedError):
        operator().run_recording_errors(lambda context: None, {"ti": second})
    assert (first.pushed, second.pushed) == ({}, {ERROR_KEY: "the bucket does not answer"})


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def retries_after(error: BaseException, number: int = 4) -> bool:
    task = retrain_dag("taxi").get_task("trainer")
    return task.retry_policy.evaluate(error, number, 4, {"task": task}).action is not RetryAction.FAIL


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StateNotReachedError("the bucket"), True),
        (MLInfrastructureFailed("StateNotReachedError: the bucket"), True),
        (StateRefusedError("the key"), False),
    ],
)
def test_a_bucket_that_is_away_is_retried_and_one_that_refuses_is_not(error, again):
    assert retries_after(error) is again


@pytest.mark.parametrize(
    ("step", "infrastructure"),
    [("unreached", True), ("without_space", True), ("on_a_full_disk", True), ("broken", False)],
)
def test_a_step_says_whether_its_error_is_the_infrastructures(step, infrastructure, tmp_path):
    from nightly.runtime import worker

    result = tmp_path / "result.json"
    worker.run(f"tests.dags.test_hosts:{step}", tmp_path, result)
    assert json.loads(result.read_text())["infrastructure"] is infrastructure


def unreached(night_folder: Path, paths: Paths) -> None:
    raise StateNotReachedError("the bucket does not answer")


def without_space(night_folder: Path, paths: Paths) -> None:
    raise SpaceError("0 MB are free")


def on_a_full_disk(night_folder: Path, paths: Paths) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(night_folder: Path, paths: Paths) -> None:
    raise ValueError("a column")
