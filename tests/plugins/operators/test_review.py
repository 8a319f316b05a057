"""Which held nights wait for a person, what the person is shown, and what comes of no answer."""

import datetime as dt
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import DownstreamTasksSkipped

from nightly.nights.report import report
from nightly.nights.verdict import decide
from nightly.records.night import Contribution, GateResult, Night, Reason, StepError, utc_now
from nightly.records.schema import SchemaChange, SchemaProposal, SchemaReview
from nightly.records.verdict import Outcome
from nightly_airflow.operators import review
from nightly_airflow.retrain import retrain_dag
from tests.support.nights import a_night
from tests.support.records import release_record

EVIL = "<script>`x`</script> **[now](http://x)**"
NOW = dt.datetime(2016, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def dag(tmp_path, monkeypatch):
    """The taxi DAG for one held night, `tonight`, with its records."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    dag = retrain_dag("taxi")
    for task in dag.tasks:
        task.run_id = "tonight"
    return dag


@pytest.fixture
def held(dag):
    """Write the records of the held night; its folder."""

    def write(trigger="scheduled", left=(), text="the new schema\n"):
        folder = dag.get_task("data_gate").folder
        night = a_night(trigger=trigger, release=False)
        night.save(folder / "request.json")
        GateResult(gate="data", passed=False, reasons=[], decided_at=NOW).save(folder / "data_gate.json")
        change = SchemaChange(
            feature="payment_type",
            kind="new values",
            old="7 values",
            new=EVIL,
            risk="none",
            values=[Contribution(value=EVIL, rows=1234, share=0.1)],
            rows=["rows-00000-of-00001.parquet:7"],
        )
        proposal = SchemaProposal(
            model="taxi",
            run_id="tonight",
            as_of=NOW,
            base_version=0,
            base_sha256="ab",
            changes=[change],
            diff="+ ```` a fence",
            text=text,
            left=list(left),
            proposed_at=NOW,
        )
        proposal.save(folder / SchemaProposal.FILE)
        return folder

    return write


def context(dag, task):
    pushed = {}
    push = lambda key, value: pushed.update({key: value})  # noqa: E731
    ti = SimpleNamespace(try_number=1, max_tries=20, map_index=-1, xcom_push=push, pushed=pushed)
    return {"ti": ti, "task": dag.get_task(task)}


def skipped_by_the_gate(dag, stop=True):
    gate = dag.get_task("data_gate")
    return {task.task_id for task in gate.tasks_to_skip(context(dag, "data_gate"), stop=stop)}


def test_a_night_waits_when_a_change_of_the_schema_would_let_it_go_on(dag, held):
    held()
    assert skipped_by_the_gate(dag) == set()


def test_a_night_that_passes_skips_the_review_alone(dag):
    assert skipped_by_the_gate(dag, stop=False) == {"schema_review", "data_gate_again"}


@pytest.mark.parametrize(
    "records", [{"left": ["it drifted"]}, {"trigger": "backfill"}], ids=["something else holds it too", "a backfill"]
)
def test_other_held_nights_end_at_once(dag, held, records):
    held(**records)
    assert skipped_by_the_gate(dag) == {"schema_review", "data_gate_again", "transform"}


def test_a_held_night_without_a_proposal_ends_at_once(dag, held):
    (held() / SchemaProposal.FILE).unlink()
    assert "transform" in skipped_by_the_gate(dag)


def test_no_night_waits_where_the_config_says_so(dag, held, monkeypatch):
    held()
    config = SimpleNamespace(schema_review=SimpleNamespace(hours=0))
    monkeypatch.setattr("nightly_airflow.operators.review.config_of", lambda night: config)
    assert "transform" in skipped_by_the_gate(dag)


def test_the_text_shows_what_the_data_holds_as_text(held):
    text = review.body(SchemaProposal.load(held() / SchemaProposal.FILE), hours=12)
    shown = text[: text.index("### The change")]
    assert r"\<script\>\`x\`\</script\> \*\*\[now\]\(http://x\)\*\*: 1,234 rows (10.0%)" in shown
    assert "rows-00000-of-00001.parquet:7" in shown and "within 12 hours" in shown
    assert text.endswith("`````diff\n+ ```` a fence\n`````"), "nothing in the diff ends its block"


def test_without_an_answer_in_time_the_night_stays_held_and_says_so(dag, held):
    folder, asked = held(), context(dag, "schema_review")
    event = {"chosen_options": ["Reject"], "params_input": {"reason": ""}, "responded_by_user": None, "timedout": True}
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        dag.get_task("schema_review").execute_complete(asked, event)
    assert set(skipped.value.tasks) == {"data_gate_again", "transform"}
    assert set(asked["ti"].pushed["skipmixin_key"]["skipped"]) == {"data_gate_again", "transform"}
    verdict = decide("taxi", "tonight", folder, dict.fromkeys(("plan", "data_gate", "schema_review"), "success"))
    assert verdict.outcome is Outcome.HELD_DATA
    assert "no answer to the proposed schema change: nobody answered within 12 hours" in verdict.summary


def test_an_answer_without_a_reason_is_an_error_that_the_verdict_can_quote(dag, held):
    folder = held()
    user = {"id": "ann", "name": "ann"}
    event = {"chosen_options": ["Approve"], "params_input": {"reason": " "}, "responded_by_user": user}
    with pytest.raises(Exception, match="without a reason"):
        dag.get_task("schema_review").execute_complete(context(dag, "schema_review"), event)
    assert "without a reason" in StepError.load(folder / "schema_review.error.json").message
    assert not (folder / SchemaReview.FILE).exists()


def test_another_proposal_than_the_one_that_airflow_shows_is_not_asked(dag, held):
    folder = held(text="what is proposed now\n")
    SchemaProposal.load(folder / SchemaProposal.FILE).model_copy(update={"text": "what was first"}).save(
        folder / SchemaProposal.ASKED_FILE
    )
    with pytest.raises(DownstreamTasksSkipped):
        dag.get_task("schema_review").perform(context(dag, "schema_review"))
    assert SchemaReview.load(folder / SchemaReview.FILE).decision == "unanswered"
    assert "bin/schema approve taxi 'tonight'" in SchemaReview.load(folder / SchemaReview.FILE).reason


def test_an_approved_review_is_in_the_verdict(dag, held):
    folder = held()
    approved = SchemaReview(decision="approved", by="ann", reason="so it is", version=3, answered_at=utc_now())
    approved.save(folder / SchemaReview.FILE)
    night = Night.load(folder / "request.json")
    night.model_copy(update={"schema_version": 3, "schema_note": "version 3 (…)"}).save(folder / "request.json")
    verdict = decide("taxi", "tonight", folder, dict.fromkeys(("plan", "data_gate", "schema_review"), "success"))
    assert (verdict.schema_version, verdict.schema_note) == (3, "version 3 (…)")
    assert verdict.schema_review == "ann approved the proposed schema change as version 3: so it is"


def test_the_notice_of_a_night_that_waits_says_what_is_in_production_and_what_holds(dag, held, tmp_path):
    folder = held()
    far = {"subject": "payment_type", "figure": 0.1, "threshold": 0.05, "held": True, "message": "far"}
    reasons = [Reason(check="drift", control=control, **far) for control in ("last_accepted", "production")]
    reasons += [
        Reason(check=f"max_{n}", subject="fare", figure=0.0, threshold=1.0, held=False, message="") for n in range(118)
    ]
    GateResult(gate="data", passed=False, reasons=reasons, decided_at=NOW).save(folder / "data_gate.json")
    (tmp_path / "serving/taxi/1480000000").mkdir(parents=True)
    release_record(run_id="before", released_at=NOW).save(tmp_path / "releases/taxi/1480000000.json")
    text = report(dag.get_task("schema_review").waiting())
    assert "in production 1480000000" in text
    assert "against last accepted" in text and "against production" in text
    assert text.endswith("118 other checks are ok") and len(text.splitlines()) < 20
