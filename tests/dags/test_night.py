"""Whole nights through Airflow's task runner and its database; the ML steps find what the test tells them to."""

import datetime as dt
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from airflow.sdk.configuration import conf

from nightly.models import load_config
from nightly.records.config import Pipeline
from nightly.records.night import Night, StepError
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore
from nightly_airflow.note import write_note
from nightly_airflow.operators.base import NightOperator, rendered
from nightly_airflow.operators.plan import BEAM_CHECK
from nightly_airflow.web.log import excerpt
from tests.support.dag_runs import skipped
from tests.support.records import release_record
from tests.support.releases import NOW, export, names, release

pytestmark = pytest.mark.slow


def test_a_night_that_deserves_it_is_released(run_night, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", "fs://mary:open-sesame@/")
    state, note, states, folder = run_night(as_of="2016-01-02", train_steps=7)

    assert state == "success" and skipped(states) == set() and "failed" not in states.values()
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.version, verdict.rows) == (Outcome.RELEASED, 1480000000, 4242)
    night = Night.load(folder / "request.json")
    assert (night.as_of, night.train_steps) == (dt.datetime(2016, 1, 2, tzinfo=dt.UTC), 7)
    assert note == "**✓ RELEASED: version 1480000000 of taxi is released**"
    assert (folder / "connections").read_text() == "download: ['AIRFLOW_CONN_TAXI_FILES']", "and no other step has it"
    kept = [path.read_text() for path in folder.iterdir()] + [str(xcom) for xcom in xcoms(night.run_id)]
    assert len(kept) > 10 and "sesame" not in "".join(kept)


def xcoms(run_id):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(XComModel.value).filter_by(run_id=run_id)).all()


def test_a_night_that_is_not_asked_to_release_is_accepted(run_night):
    state, note, states, _ = run_night(release="no")

    assert state == "success" and skipped(states) == {"release"}
    assert note.startswith("**○ ACCEPTED: ")


def test_the_data_gate_skips_all_that_is_downstream_and_the_note_says_why(run_night):
    state, note, states, folder = run_night({"data_gate": "hold"})

    assert state == "success"
    assert skipped(states) == {"transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"}
    assert states["verdict"] == "success"
    assert Verdict.load(folder / "verdict.json").outcome is Outcome.HELD_DATA
    assert note.startswith("**! HELD_DATA: labels are few; it drifted; nothing is in production yet**")


def test_the_model_gate_skips_the_release(run_night):
    _, note, states, folder = run_night({"model_gate": "hold"})

    assert skipped(states) == {"release"}
    assert Verdict.load(folder / "verdict.json").outcome is Outcome.HELD_MODEL
    assert note.startswith("**! HELD_MODEL")


def test_no_rows_are_no_data(run_night):
    state, note, states, _ = run_night({"snapshot": "empty"})

    assert state == "success" and len(skipped(states)) == 12
    assert note.startswith("**– NO_DATA: the source has no rows from 2016-01-02 to 2017-01-01")


def test_airflow_shows_as_much_of_the_verdict_as_it_keeps_without_a_remark_of_its_own(run_night, monkeypatch):
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session
    from sqlalchemy import select

    monkeypatch.setenv("AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH", "400")
    _, _, _, folder = run_night({"data_gate": "hold"})
    run_id = Verdict.load(folder / "verdict.json").run_id
    with create_session() as session:
        query = select(RenderedTaskInstanceFields.rendered_fields).filter_by(run_id=run_id, task_id="verdict")
        shown = session.scalars(query).one()["verdict"]
    assert shown.startswith("! HELD_DATA") and len(shown) <= 400
    assert shown.endswith("\n… and more: the whole text is in this task's log, and on the night's page")


@pytest.mark.parametrize("lines", [1, 100, 10_000])
def test_a_rendered_text_is_whole_lines_within_airflows_limit(lines):
    text = "\n".join(f"line {number}" for number in range(lines))
    assert len(rendered(text)) <= conf.getint("core", "max_templated_field_length")
    assert (rendered(text) == text) == (lines < 1_000)
    assert {*rendered(text).splitlines()[:-1]} <= {*text.splitlines()}


def test_a_failed_task_makes_the_run_red_and_the_verdict_quotes_it(run_night):
    state, note, states, folder = run_night({"data_gate": "fail"})

    assert state == "failed" and states["data_gate"] == states["verdict"] == "failed"
    verdict = Verdict.load(folder / "verdict.json")
    assert (verdict.outcome, verdict.failed_task) == (Outcome.FAILED, "data_gate")
    assert note == "**✕ FAILED: data_gate failed: ValueError: data_gate met a column it does not know**"


def test_what_cannot_be_asked_fails_at_once_and_says_why(run_night):
    as_of, reason = "2013-03-09", "a thin month"
    _, note, states, folder = run_night(as_of=as_of, thresholds={"data_gate.min_row": 5}, reason=reason)

    assert states["plan"] == "failed" and states["download"] == "upstream_failed"
    assert "did you mean 'min_rows'?" in note
    verdict = Verdict.load(folder / "verdict.json")
    assert verdict.as_of == dt.datetime(2013, 3, 9, tzinfo=dt.UTC), "a night that was never planned has a date"
    assert verdict.run_url.endswith(f"/dags/taxi_retrain/runs/{quote(verdict.run_id)}")


def test_the_end_of_a_failed_tasks_log_is_what_airflow_has_of_it(run_night):
    from airflow.configuration import conf

    _, _, _, folder = run_night({"data_gate": "fail"})
    run_id = Verdict.load(folder / "verdict.json").run_id
    place = Path(conf.get("logging", "base_log_folder"), f"dag_id=taxi_retrain/run_id={run_id}/task_id=data_gate")
    place.mkdir(parents=True)
    lines = [{"timestamp": "2016-01-02T03:00:00Z", "level": "info", "event": f"line {n}"} for n in range(50)]
    lines.append({"timestamp": "2016-01-02T03:00:01Z", "level": "error", "event": "a column it does not know"})
    last_try = StepError.load(folder / "data_gate.error.json").try_number
    (place / f"attempt={last_try}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))

    text = excerpt("taxi_retrain", run_id, "data_gate")
    assert text.endswith("INFO    line 49\nERROR   a column it does not know") and "line 10\n" not in text
    assert excerpt("taxi_retrain", run_id, "no_task") == excerpt("taxi_retrain", "no run", "data_gate") == ""


def test_a_key_that_the_form_does_not_have_fails_the_night_at_once_with_the_nearest_that_it_has(run_night):
    state, note, states, folder = run_night(asof="2013-03-09", train_step=3)

    assert state == "failed" and states["plan"] == "failed" and states["download"] == "upstream_failed"
    assert "asof: there is no such key; did you mean 'as_of'?" in note
    assert "train_step: there is no such key; did you mean 'train_steps'?" in note
    assert StepError.load(folder / "plan.error.json").try_number == 1
    assert not (folder / "request.json").exists()


def test_options_that_beam_refuses_fail_the_night_before_its_download(run_night, monkeypatch):
    on_beam = load_config("taxi").model_copy(update={"pipeline": Pipeline(engine="beam")})
    monkeypatch.setattr("nightly.models.load_config", lambda name: on_beam)
    _, note, states, _ = run_night({BEAM_CHECK: "fail"})

    assert states["plan"] == "failed" and states["download"] == "upstream_failed"
    assert f"plan failed: ValueError: {BEAM_CHECK} met a column" in note


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


def test_while_a_canary_is_compared_a_night_trains_and_judges_and_releases_nothing(run_night, tmp_path):
    (tmp_path / "var/serving/taxi/1480000000").mkdir(parents=True)
    release_record(
        state="canary", run_id="the night before", canary_since=dt.datetime(2016, 1, 1, 9, tzinfo=dt.UTC)
    ).save(tmp_path / "var/releases/taxi/1480000000.json")

    state, note, states, _ = run_night(as_of="2016-01-02")

    assert state == "success" and "release" in skipped(states) and "model_gate" not in skipped(states)
    assert note.startswith("**○ ACCEPTED: both gates passed, but canary 1480000000 is being compared")
    assert "since 2016-01-01 09:00 UTC" in note


@pytest.mark.parametrize("by", ["plan", "verdict"])
def test_what_a_dead_release_left_unverified_is_out_of_sight_after(run_night, tmp_path, monkeypatch, by):
    store = ReleaseStore(tmp_path / "var/serving", tmp_path / "var/releases", "taxi")
    record = release(store, export(tmp_path / "export"))
    record.model_copy(update={"state": "verifying", "server": "grpc://one"}).save(store.disk.releases / f"{NOW}.json")
    settle = NightOperator.settle_releases
    monkeypatch.setattr(NightOperator, "settle_releases", lambda self: settle(self) if self.task_id == by else None)

    _, _, states, _ = run_night({"release": "fail"} if by == "verdict" else {})

    assert states["verdict"] == ("failed" if by == "verdict" else "success")
    assert store.disk.record(NOW).state == "unverified" and names(store.disk.folder) == [f"unverified-{NOW}"]
