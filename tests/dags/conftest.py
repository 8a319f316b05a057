"""Runs of the DAGs without a scheduler, over Airflow's own database."""

import datetime as dt
import json

import httpx
import pytest

from nightly.io.paths import ROOT, Paths
from nightly_airflow.note import write_note
from nightly_airflow.retrain import retrain_dag


@pytest.fixture(scope="session")
def database():
    """Airflow's own database, made in the tests' temporary home."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def paths(paths, warm, monkeypatch) -> Paths:
    """Empty ones, for steps in the real ML environment, without a model server."""
    for name, value in warm.items():
        monkeypatch.setenv(name, value)
    paths = Paths.from_environment()
    if not paths.ml_python.exists():
        pytest.skip("the ML environment is not set up")
    return paths


@pytest.fixture
def run_night(database, tmp_path, monkeypatch):
    """Runs the taxi DAG once: the run's state and note, its tasks' states, and the night's folder."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("NIGHTLY_ML_PYTHON", str(ROOT / "tests/support/scripted_ml.py"))
    monkeypatch.setenv("NIGHTLY_WARM", "0")
    trips = tmp_path / "trips.csv"
    trips.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}))

    def run_night(script: dict[str, str] | None = None, **conf):
        monkeypatch.setenv("NIGHTLY_TEST_SCRIPT", json.dumps(script or {}))
        dag = retrain_dag("taxi")
        for task in dag.tasks:
            task.retry_delay = dt.timedelta()
        done = dag.test(run_conf=conf)
        states = {instance.task_id: instance.state for instance in done.get_task_instances()}
        with create_session() as session:  # what the scheduler does when a run ends; dag.test() has no session for it
            run = session.get(DagRun, done.id)
            write_note(run)
            note = run.note
        [folder] = (tmp_path / "var/nights/taxi").iterdir()
        return done.state, note, states, folder

    return run_night


@pytest.fixture
def lose(monkeypatch):
    """Lets `method` of an operator do its work and then time out, so many times; returns how often it was called."""

    def lose(kind: type, method: str, times: int = 1) -> list[str]:
        calls: list[str] = []
        work = getattr(kind, method)

        def lost(operator, *arguments, **named):
            calls.append(operator.task_id)
            if calls.count(operator.task_id) > times:
                return work(operator, *arguments, **named)
            try:
                work(operator, *arguments, **named)
            finally:
                raise httpx.ReadTimeout("The read operation timed out")

        monkeypatch.setattr(kind, method, lost)
        return calls

    return lose
