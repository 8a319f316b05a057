"""Nights whose verdict task never began: the scheduler gives them a verdict, once."""

import datetime as dt
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy.exc import OperationalError

from nightly.io.polling import poll
from nightly.records.night import utc_now
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow import future_times
from nightly_airflow.missing_verdicts import give_all, give_verdict, without_verdict
from nightly_airflow.operators.verdict import VerdictOperator
from nightly_plugin import NightlyListener
from tests.support.dag_runs import told

pytestmark = pytest.mark.slow


@pytest.fixture
def session(database):
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session


@pytest.fixture
def watch(monkeypatch):
    """Lets the listener start nothing from now on; the commands that it would have started."""

    def watch() -> list[list[str]]:
        commands: list[list[str]] = []
        monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command[1:]))
        return commands

    return watch


def run_of(session, folder):
    from airflow.models.dagrun import DagRun

    runs = session.query(DagRun).order_by(DagRun.id.desc())
    return next(run for run in runs if run.run_id.replace(":", "-").replace("+", "-") == folder.name)


def test_a_night_whose_verdict_never_began_gets_one_once(run_night, lose, slack, session, watch):
    lose(VerdictOperator, "pre_execute", times=9)
    state, note, states, folder = run_night({"data_gate": "fail"})
    assert (state, states["verdict"], note) == ("failed", "failed", None)
    assert not (folder / "verdict.json").exists() and not slack

    run = run_of(session, folder)
    assert run in without_verdict(session)
    started = watch()
    NightlyListener().on_dag_run_failed(run, "")
    assert started == [["-m", "nightly_airflow.missing_verdicts"]]
    give_verdict(run, session)
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.failed_task, verdict.run_id) == (Outcome.FAILED, "data_gate", run.run_id)
    assert "met a column it does not know" in verdict.error
    session.expire_all()
    assert run_of(session, folder).note.startswith("**✕ FAILED: data_gate failed")
    assert "FAILED: data_gate failed" in told(slack)

    assert run not in without_verdict(session)
    give_verdict(run, session)  # as after a kill between the notification and the note
    assert len(slack) == 1


def test_a_night_that_has_its_verdict_lacks_one_again_only_when_it_runs_anew(run_night, session):
    _, _, _, folder = run_night({"data_gate": "hold"})
    run = run_of(session, folder)
    assert run not in without_verdict(session)
    run.start_date = dt.datetime.now(dt.UTC)  # as a clearing does, after which the verdict did not begin
    session.flush()
    assert run in without_verdict(session)
    session.rollback()


def test_a_night_that_began_while_the_clock_was_ahead_gets_no_second_verdict(run_night, session):
    _, _, _, folder = run_night({"data_gate": "hold"})
    run = run_of(session, folder)
    run.start_date = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    session.flush()
    assert run not in without_verdict(session)
    session.rollback()


@pytest.fixture
def starts(monkeypatch, watch):
    """starts(COMMAND): a component of Airflow starts on the host a, as `airflow COMMAND` does."""
    from airflow.jobs import job

    watch()
    monkeypatch.setattr(job, "get_hostname", lambda: "a")

    def start(command):
        monkeypatch.setattr(sys, "argv", ["/somewhere/airflow", command])
        job.Job()  # tells the listener, which Airflow has loaded from plugins/

    return start


def test_a_scheduler_corrects_the_future_heartbeat_of_the_dead_one_before_it_and_of_no_other(session, starts):
    """One that lives sends none until the clock has reached its last: a corrected one would be taken for dead."""
    from airflow.jobs.job import Job

    def job(job_type, hostname, hours):
        latest = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
        job = Job(job_type=job_type, hostname=hostname, state="running")
        job.latest_heartbeat = latest
        return job

    jobs = [job("SchedulerJob", "a", 2), job("SchedulerJob", "b", 2), job("TriggererJob", "a", 2)]
    jobs.append(job("SchedulerJob", "a", -1))
    session.add_all(jobs)
    session.commit()
    numbers, before = [each.id for each in jobs], [each.latest_heartbeat for each in jobs]

    def heartbeats():
        return [session.get(Job, number, populate_existing=True).latest_heartbeat for number in numbers]

    starts("triggerer")
    assert heartbeats() == before
    starts("scheduler")
    corrected, *kept = heartbeats()
    assert abs(corrected - utc_now()) < dt.timedelta(seconds=30)
    assert kept == before[1:]


def test_the_future_heartbeat_of_a_scheduler_is_corrected_once_a_later_one_runs_on_its_host(session):
    """As when the later one started while the clock was still ahead."""
    from airflow.jobs.job import Job

    future = utc_now() + dt.timedelta(hours=2)
    jobs = [Job(job_type="SchedulerJob", hostname=host, state="running") for host in ("c", "c", "d")]
    for job in jobs:
        job.latest_heartbeat = future
        session.add(job)
        session.commit()
    numbers = [job.id for job in jobs]
    future_times.correct_schedulers(session)
    dead, *alive = (session.get(Job, number, populate_existing=True).latest_heartbeat for number in numbers)
    assert abs(dead - utc_now()) < dt.timedelta(seconds=30)
    assert alive == [future, future]


@pytest.mark.parametrize("command", ["scheduler", "triggerer"])
def test_future_heartbeats_and_retries_of_tasks_are_corrected(run_night, session, starts, monkeypatch, command):
    from airflow.models.taskinstance import TaskInstance

    _, _, _, folder = run_night({"data_gate": "hold"})
    tasks = {task.task_id: task for task in run_of(session, folder).get_task_instances(session=session)}
    numbers, future = {name: task.id for name, task in tasks.items()}, utc_now() + dt.timedelta(hours=2)
    tasks["snapshot"].last_heartbeat_at = tasks["plan"].end_date = tasks["examples"].end_date = future
    tasks["snapshot"].state, tasks["examples"].state = "running", "up_for_retry"
    session.commit()
    monkeypatch.setattr(future_times, "PERIOD_SECONDS", 0.5)
    starts(command)

    def task(name):
        session.rollback()
        return session.get(TaskInstance, numbers[name], populate_existing=True)

    def is_corrected():
        return max(task("snapshot").last_heartbeat_at, task("examples").end_date) < utc_now() + dt.timedelta(minutes=1)

    assert poll(is_corrected, seconds=30, every=0.2)
    assert task("plan").end_date == future, "it has ended, and nothing waits for that time"
    monkeypatch.setattr(future_times, "PERIOD_SECONDS", 3600)


def test_what_a_dead_listener_left_gets_its_verdict_when_the_next_night_begins_or_the_scheduler_starts(
    run_night,
    lose,
    session,
    watch,
):
    class Job:
        hostname = "a"

    lose(VerdictOperator, "pre_execute", times=9)
    _, _, _, folder = run_night({"data_gate": "hold"})
    run, started = run_of(session, folder), watch()
    NightlyListener().on_dag_run_running(run, "")
    assert len(started) == 1
    session.commit()
    NightlyListener().on_starting(Job())
    assert len(started) == 2


def test_a_database_that_is_locked_is_asked_again(database, monkeypatch, caplog):
    def locked(session):
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr("nightly_airflow.missing_verdicts.without_verdict", locked)
    assert give_all() is False  # so that `poll` calls it again
    assert "database is locked" in caplog.text


def test_the_process_that_the_listener_starts_gives_the_verdict(run_night, lose, session):
    lose(VerdictOperator, "pre_execute", times=9)
    _, _, _, folder = run_night({"data_gate": "hold"})
    run = run_of(session, folder)
    NightlyListener().on_dag_run_failed(run, "")
    session.commit()

    def has_verdict():
        session.commit()  # so that it sees what the process has written
        return run not in without_verdict(session)

    assert poll(has_verdict, every=1, seconds=120), "the run has no verdict"
    session.expire_all()
    assert run.note.startswith("**! HELD_DATA: labels are few; it drifted")
    assert Verdict.load(folder / "verdict.json").outcome is Outcome.HELD_DATA
