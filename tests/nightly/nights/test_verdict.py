"""The verdict from the states of a night's tasks and what they found."""

import datetime as dt

import pytest

from nightly.io.paths import Paths
from nightly.nights.report import report
from nightly.nights.verdict import decide, judge
from nightly.records.night import GateResult, Night, Reason, SnapshotRef, StepError, utc_now
from nightly.records.release import NotReleased
from nightly.records.reuse import Reuse
from nightly.records.snapshot import Delivery
from nightly.records.verdict import Outcome
from tests.support.nights import a_night
from tests.support.records import release_record

TASKS = ["plan", "download", "snapshot", "data_gate", "trainer", "model_gate", "release"]
HELD = Reason(check="drift", subject="company", figure=0.3, threshold=0.1, held=True, message="company drifted by 0.3")


@pytest.fixture
def folder(tmp_path):
    """A night that was not to release and found all well."""
    as_of = dt.datetime(2016, 1, 2, tzinfo=dt.UTC)
    start = as_of - dt.timedelta(days=9)
    night = a_night(as_of=as_of, window_start=start, release=False, production_version=1470000000)
    night.save(tmp_path / "request.json")
    SnapshotRef(snapshot_id="ab", path="/nowhere", rows=5, created=True).save(tmp_path / "snapshot.json")
    for name in ("data", "model"):
        save_gate(tmp_path, name)
    return tmp_path


def save_gate(folder, name, *reasons):
    gate = GateResult(gate=name, passed=not reasons, reasons=list(reasons), decided_at=utc_now())
    gate.save(folder / f"{name}_gate.json")


def verdict(folder, **states):
    return decide("taxi", "tonight", folder, {**dict.fromkeys(TASKS, "success"), "release": "skipped", **states})


def test_a_good_night_that_was_not_to_release_is_accepted(folder):
    found = verdict(folder)
    assert found.outcome is Outcome.ACCEPTED and "version 1470000000 stays in production" in found.summary


def test_a_held_night_says_why_and_what_stays(folder):
    save_gate(folder, "data", HELD)
    found = verdict(folder, trainer="skipped", model_gate="skipped")
    assert found.outcome is Outcome.HELD_DATA and found.reasons == [HELD]
    assert found.summary == ("company drifted by 0.3; version 1470000000 stays in production")


def test_a_record_of_a_task_that_did_not_succeed_this_time_counts_for_nothing(folder):
    save_gate(folder, "model", HELD)  # left from before the trainer was cleared
    found = verdict(folder, trainer="failed", model_gate="upstream_failed", release="upstream_failed")
    assert (found.outcome, found.failed_task, found.reasons) == (Outcome.FAILED, "trainer", [])


def test_the_first_failed_task_is_quoted(folder):
    error = StepError(task="trainer", message="ValueError: no such\n  column", try_number=1, failed_at=utc_now())
    error.save(folder / "trainer.error.json")
    found = verdict(folder, trainer="failed", model_gate="upstream_failed", release="upstream_failed")
    assert found.summary == "trainer failed: ValueError: no such column" and "\n" in found.error


def test_an_error_of_a_task_that_was_cleared_and_did_not_begin_since_is_none_of_this_try(tmp_path):
    paths = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path)})
    folder = paths.night("taxi", "tonight")
    for task in ("transform", "trainer", "evaluator"):
        StepError(task=task, message=f"{task} had no memory", try_number=1, failed_at=utc_now()).save(
            folder / f"{task}.error.json"
        )
    states = {"plan": "success", "transform": "failed", "trainer": "upstream_failed", "evaluator": "success"}
    found = judge("taxi", "tonight", paths, states, began=utc_now())
    assert found.failed_task == "transform"
    assert found.error.startswith("transform had no memory\n(This is from before the run was started again. If trans")
    assert [path.name for path in folder.glob("*.error.json")] == ["transform.error.json"]
    states |= {"transform": "upstream_failed"}
    assert "had no memory" not in judge("taxi", "tonight", paths, states).error


def test_an_error_of_this_try_stays(tmp_path):
    paths, began = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path)}), utc_now()
    path = paths.night("taxi", "tonight") / "trainer.error.json"
    StepError(task="trainer", message="it had no memory", try_number=2, failed_at=utc_now()).save(path)
    found = judge("taxi", "tonight", paths, {"plan": "success", "trainer": "failed"}, began=began)
    assert found.error == "it had no memory" and path.exists()


def test_an_error_that_the_bucket_did_not_take_is_quoted_and_not_that_of_an_earlier_try(folder):
    StepError(task="trainer", message="the first try's", try_number=1, failed_at=utc_now()).save(
        folder / "trainer.error.json"
    )
    states = {"plan": "success", "trainer": "failed"}
    found = decide("taxi", "tonight", folder, states, errors={"trainer": "the last try's"})
    assert found.error == "the last try's"


def test_a_killed_task_left_no_message_and_the_verdict_says_so(folder):
    found = verdict(folder, trainer="failed", release="upstream_failed")
    assert "left no message. It was killed, marked as failed, or never began" in found.error


def test_a_task_that_was_killed_with_its_process_is_told_with_what_airflow_knows(folder):
    states = {"plan": "success", "trainer": "failed"}
    found = decide("taxi", "tonight", folder, states, tries={"trainer": 5}, ran={"trainer": "for 0:12:03 on host-a"})
    assert found.summary.startswith(
        "trainer failed: it is failed after try 5 of 5 and left no message. "
        "Its last try that began ran for 0:12:03 on host-a. It was killed, marked as failed, or never began"
    )


def test_no_rows_are_no_data(folder):
    SnapshotRef(snapshot_id="ab", path="/nowhere", rows=0, created=True).save(folder / "snapshot.json")
    found = verdict(folder, **dict.fromkeys(["data_gate", "trainer", "model_gate"], "skipped"))
    assert found.outcome is Outcome.NO_DATA and "from 2015-12-24 to 2016-01-02" in found.summary
    rows = Delivery(outside=9, oldest=utc_now().replace(year=2013), newest=utc_now().replace(year=2014))
    SnapshotRef(snapshot_id="", path="", rows=0, created=False, delivery=rows).save(folder / "snapshot.json")
    found = verdict(folder, **dict.fromkeys(["data_gate", "trainer", "model_gate"], "skipped"))
    assert "(its 9 rows are from 2013-" in found.summary and " to 2014-" in found.summary


def test_a_night_that_failed_before_it_was_planned_says_what_its_run_says(tmp_path):
    states = dict.fromkeys(TASKS, "upstream_failed") | {"plan": "failed"}
    as_of = dt.datetime(2016, 1, 2, tzinfo=dt.UTC)
    found = decide("taxi", "tonight", tmp_path, states, production=1470000000, as_of=as_of, run_url="http://airflow/r")
    assert (found.outcome, found.failed_task, found.as_of) == (Outcome.FAILED, "plan", as_of)
    assert (found.production_version, found.run_url) == (1470000000, "http://airflow/r")


def test_what_stays_in_production_is_what_is_there_when_the_night_ends(folder):
    save_gate(folder, "data", HELD)
    states = {**dict.fromkeys(TASKS, "skipped"), "plan": "success", "data_gate": "success"}
    found = decide("taxi", "tonight", folder, states, production=1490000000)
    assert found.production_version == 1490000000
    assert found.summary.endswith("version 1490000000 stays in production")


def test_skipped_without_a_reason_is_no_success(folder):
    found = verdict(folder, trainer="skipped", model_gate="skipped")
    assert (found.outcome, found.failed_task) == (Outcome.FAILED, "trainer")


def test_a_night_whose_release_waits_for_a_canary_is_accepted_and_says_for_which(folder):
    Night.load(folder / "request.json").model_copy(update={"release": True}).save(folder / "request.json")
    reason = "canary 1480000000 is being compared with production since 2016-01-01 09:00 UTC"
    NotReleased(reason=reason, decided_at=utc_now()).save(folder / NotReleased.FILE)
    found = verdict(folder)
    assert found.outcome is Outcome.ACCEPTED and found.version is None
    assert found.summary == (f"both gates passed, but {reason}; version 1470000000 stays in production")
    assert verdict(folder, release="failed").outcome is Outcome.FAILED, "what an earlier try left does not count"


def test_a_canary_is_released_and_production_is_still_the_one_before(folder):
    release_record(state="canary", metrics={"auc": 0.7}, previous_version=1470000000, canary_share=0.1).save(
        folder / "release.json"
    )
    found = verdict(folder, release="success")
    assert (found.outcome, found.version, found.production_version) == (Outcome.RELEASED, 1480000000, 1470000000)
    assert found.summary == (
        "version 1480000000 of taxi is the canary, for 10 % of the callers; "
        "version 1470000000 stays in production meanwhile"
    )


def test_a_night_in_which_nothing_changed_is_accepted_and_says_whose_work_it_took_over(folder):
    Night.load(folder / "request.json").model_copy(update={"release": True}).save(folder / "request.json")
    reason = "nothing has changed since last-night, which released this very model"
    NotReleased(reason=reason, decided_at=utc_now()).save(folder / NotReleased.FILE)
    Reuse(task="trainer", run_id="last-night", reason="the same inputs").save(folder / Reuse.FILE.format("trainer"))
    Reuse(task="snapshot", reason="no earlier run of it is known").save(folder / Reuse.FILE.format("snapshot"))
    Reuse(task="data_gate", run_id="other", reason="it did not run").save(folder / Reuse.FILE.format("data_gate"))
    found = verdict(folder, data_gate="skipped")
    assert (found.outcome, found.reused) == (Outcome.ACCEPTED, {"trainer": "last-night"})
    assert found.summary == f"both gates passed, but {reason}; version 1470000000 stays in production"
    assert "reused        trainer of last-night" in report(found)


def test_a_night_whose_model_was_taken_back_is_held_and_says_what_to_do(folder):
    Night.load(folder / "request.json").model_copy(update={"release": True}).save(folder / "request.json")
    reason = "this very model is version 1480000000, which was taken back (callers complain)"
    NotReleased(reason=reason, withdrawn=1480000000, decided_at=utc_now()).save(folder / NotReleased.FILE)
    found = verdict(folder)
    assert found.outcome is Outcome.HELD_MODEL
    assert found.summary == f"{reason}: it is not released again; version 1470000000 stays in production"
    (held,) = [one for one in found.reasons if one.held]
    assert held.subject == "version 1480000000" and "training again" in held.action
