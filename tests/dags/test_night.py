"""Whole nights through Airflow's task runner and its database; the ML steps find what the test tells them to."""

import datetime as dt
import json
from pathlib import Path

import pytest

from include.contracts.night import Night
from include.contracts.verdict import Outcome, Verdict
from nightly.retrain import retrain_dag
from nightly_plugin import write_note


@pytest.fixture
def run_night(database, tmp_path, monkeypatch):
    """Runs the taxi DAG once: the run's state and note, its tasks' states, and the night's folder."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("NIGHTLY_ML_PYTHON", str(Path(__file__).parent.parent / "scripted_ml.py"))
    monkeypatch.setenv("NIGHTLY_WARM", "0")
    trips = tmp_path / "trips.csv"
    trips.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}))

    def run_night(script: dict[str, str] | None = None, **conf):
        monkeypatch.setenv("NIGHTLY_TEST_SCRIPT", json.dumps(script or {}))
        done = retrain_dag("taxi").test(run_conf=conf)
        states = {instance.task_id: instance.state for instance in done.get_task_instances()}
        with create_session() as session:  # what the scheduler does when a run ends; dag.test() has no session for it
            run = session.get(DagRun, done.id)
            write_note(run)
            note = run.note
        [folder] = (tmp_path / "var/nights/taxi").iterdir()
        return done.state, note, states, folder

    return run_night


def skipped(states: dict[str, str]) -> set[str]:
    return {task for task, state in states.items() if state == "skipped"}


def test_a_night_that_deserves_it_is_released(run_night):
    state, note, states, folder = run_night(as_of="2016-01-02", train_steps=7)

    assert state == "success" and set(states.values()) == {"success"}
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.version, verdict.rows) == (Outcome.RELEASED, 1480000000, 4242)
    night = Night.load(folder / "request.json")
    assert (night.as_of, night.train_steps) == (dt.datetime(2016, 1, 2, tzinfo=dt.UTC), 7)
    assert note == "**🟢 RELEASED: version 1480000000 of taxi is released**"


def test_a_night_that_is_not_asked_to_release_is_accepted(run_night):
    state, note, states, _ = run_night(release="no")

    assert state == "success" and skipped(states) == {"release"}
    assert note.startswith("**🔵 ACCEPTED: ")


def test_the_data_gate_skips_all_that_is_downstream_and_the_note_says_why(run_night):
    state, note, states, folder = run_night({"data_gate": "hold"})

    assert state == "success"
    assert skipped(states) == {"transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"}
    assert states["verdict"] == "success"
    assert Verdict.load(folder / "verdict.json").outcome is Outcome.HELD_DATA
    assert note.startswith(
        "**🟠 HELD_DATA: the data gate held the night: 2 reasons: drift of payment_type, label_share"
    )
    assert "- drift `payment_type`: it drifted" in note


def test_the_model_gate_skips_the_release(run_night):
    _, note, states, folder = run_night({"model_gate": "hold"})

    assert skipped(states) == {"release"}
    assert Verdict.load(folder / "verdict.json").outcome is Outcome.HELD_MODEL
    assert note.startswith("**🟠 HELD_MODEL")


def test_no_rows_are_no_data(run_night):
    state, note, states, _ = run_night({"snapshot": "empty"})

    assert state == "success" and len(skipped(states)) == 12
    assert note.startswith("**⚪ NO_DATA: the source has no rows from 2016-01-02 to 2017-01-01")


def test_a_failed_task_makes_the_run_red_and_the_verdict_quotes_it(run_night):
    state, note, states, folder = run_night({"data_gate": "fail"})

    assert state == "failed" and states["data_gate"] == states["verdict"] == "failed"
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "data_gate")
    assert note == "**🔴 FAILED: data_gate failed: ValueError: data_gate met a column it does not know**"


def test_what_cannot_be_asked_fails_at_once_and_says_why(run_night):
    _, note, states, _ = run_night(thresholds={"data_gate.min_row": 5}, reason="a thin month")

    assert states["plan"] == "failed" and states["download"] == "upstream_failed"
    assert "did you mean 'min_rows'?" in note


def test_a_persons_note_stays_below_the_verdict_however_often_it_is_judged(run_night):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    run_night(release="no")
    with create_session() as session:
        run = session.scalars(select(DagRun).order_by(DagRun.id.desc())).first()
        run.note = "asked by the on-call"
        write_note(run)
        write_note(run)
        assert run.note.count("ACCEPTED") == 1 and run.note.endswith("\n\n---\n\nasked by the on-call")
