"""Nights of real taxi trips through a real scheduler: released, accepted, held, cleared, killed."""

import contextlib
import csv
import os
import signal
import threading

import pytest
import requests

from local.airflow import FIRST_PATHS
from nightly.io.polling import poll
from nightly.records.golden import GOLDEN, Golden
from nightly.records.night import GateResult, Night
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome
from nightly.release.store import ReleaseStore

DAG = "taxi_retrain"


@pytest.fixture(scope="module")
def released(nights):
    """Two nights of a backfill that is asked to release: the first model, and one judged against it."""
    return nights.backfilled(DAG, "2015-05-01", "2015-05-02", release="yes")


@pytest.mark.parametrize("path", FIRST_PATHS)
def test_the_paths_that_are_warmed_are_there(nights, path):
    answer = nights.airflow.page(path)
    assert answer.ok, answer.text[:500]


def test_a_backfill_that_is_asked_to_releases_each_night(nights, released):
    verdicts = [nights.verdict(DAG, run) for run in released]
    assert [verdict.outcome for verdict in verdicts] == [Outcome.RELEASED] * 2, [v.summary for v in verdicts]
    assert nights.versions("taxi") == [verdict.version for verdict in verdicts]
    first, second = (nights.folder(DAG, run) for run in released)
    assert any("no model is in production" in r.message for r in GateResult.load(first / "model_gate.json").reasons)
    compared = [r.check for r in GateResult.load(second / "model_gate.json").reasons]
    assert "auc against production" in compared
    drift = {r.subject for r in GateResult.load(second / "data_gate.json").reasons if r.check == "drift"}
    assert "payment_type" in drift, "the second night is compared with the first"


def test_a_release_has_a_record_that_names_what_it_is_made_of(nights, released):
    verdict = nights.verdict(DAG, released[1])
    record = ReleaseRecord.load(nights.paths.releases / "taxi" / f"{verdict.version}.json")
    assert record.run_id == released[1]
    assert record.snapshot_id == verdict.snapshot_id
    assert record.metrics["auc"] > 0.85
    assert record.previous_version == nights.verdict(DAG, released[0]).version
    assert record.code_version
    assert record.requested_by
    ReleaseStore(nights.paths.serving, nights.paths.releases, "taxi").disk.verify(record.version)


def test_a_release_is_verified_at_the_server_and_served_under_its_label(nights, released):
    version = nights.verdict(DAG, released[1]).version
    record = ReleaseRecord.load(nights.paths.releases / "taxi" / f"{version}.json")
    assert record.verification is not None
    golden = Golden.load(nights.paths.serving / "taxi" / str(version) / GOLDEN)
    answer = requests.post(
        f"{nights.server.url}/v1/models/taxi/labels/stable:predict",
        json={"instances": [{"b64": example.example_base64} for example in golden.examples]},
        timeout=60,
    )
    offline = [example.outputs["probability"][0] for example in golden.examples]
    assert [value[0] for value in answer.json()["predictions"]] == pytest.approx(offline, abs=golden.tolerance)


def test_the_verdict_stands_in_the_runs_note(nights, released):
    note = poll(lambda: nights.run(DAG, released[1])["note"], every=0.5, tries=40)
    assert note, "the run has no note"
    assert "RELEASED" in note
    assert str(nights.verdict(DAG, released[1]).version) in note


def test_a_steps_own_lines_stand_in_its_log(nights, released):
    log = nights.log(DAG, released[0], "trainer")
    assert "step 150 of 150" in log
    assert "0000 00:00:" not in log, "native chatter does not belong into the story of the night"


def test_a_middle_task_can_be_cleared_and_run_again(nights, released):
    before = nights.versions("taxi")
    nights.clear(DAG, released[0], "statistics")
    assert all_done(nights.wait(DAG, released[0]))
    nights.clear(DAG, released[1], "evaluator", downstream=True)
    assert all_done(nights.wait(DAG, released[1]))
    assert nights.versions("taxi") == before, "a retry of a released model does not make a second version"
    assert nights.verdict(DAG, released[1]).outcome is Outcome.RELEASED


def test_a_backfill_that_is_not_asked_to_trains_and_judges_and_does_not_release(nights, released):
    before = nights.versions("taxi")
    (run,) = nights.backfill(DAG, "2015-05-03", "2015-05-03")
    states = nights.wait(DAG, run)
    assert states["model_gate"] == "success"
    assert states["release"] == "skipped"
    assert nights.verdict(DAG, run).outcome is Outcome.ACCEPTED
    assert nights.versions("taxi") == before


def test_a_lost_column_holds_the_night_with_its_reason(nights, released, trips):
    before = nights.versions("taxi")
    source = nights.var / "source" / "trips.csv"
    with trips.open(newline="") as rows, source.open("w", newline="") as out:
        reader = csv.DictReader(rows)
        writer = csv.DictWriter(
            out, [c for c in reader.fieldnames if c not in ("payment_type", "company")], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(reader)
    try:
        run = nights.trigger(DAG, as_of="2015-05-05T08:00:00Z", release="yes")
        states = nights.wait(DAG, run)
    finally:
        source.write_bytes(trips.read_bytes())
    assert nights.run(DAG, run)["state"] == "success"
    assert states["data_gate"] == "success"
    assert {task for task, state in states.items() if state == "skipped"} == {
        *("schema_review", "data_gate_again"),
        *("transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"),
    }
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.HELD_DATA
    assert {reason.subject for reason in verdict.reasons if reason.held} >= {"payment_type", "company"}
    assert nights.versions("taxi") == before

    nights.clear(DAG, run, "transform")
    assert nights.wait(DAG, run)["transform"] == "skipped", "clearing what is behind a closed gate does not open it"

    nights.clear(DAG, run, "download", downstream=True)
    assert nights.wait(DAG, run)["release"] == "success", "the column is back"
    assert nights.verdict(DAG, run).outcome is Outcome.RELEASED


def test_a_run_can_replace_a_threshold_with_a_reason(nights, released):
    run = nights.trigger(
        DAG, as_of="2015-05-06", release="no", thresholds={"data_gate.min_rows": 1000000}, reason="to see it hold"
    )
    nights.wait(DAG, run)
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.HELD_DATA
    assert verdict.override_reason == "to see it hold"
    (reason,) = [reason for reason in verdict.reasons if reason.held]
    assert (reason.check, reason.threshold) == ("min_rows", 1000000)


def test_a_window_without_rows_is_no_data(nights):
    run = nights.trigger(DAG, as_of="2012-01-01")
    states = nights.wait(DAG, run)
    assert states["examples"] == "skipped"
    assert nights.verdict(DAG, run).outcome is Outcome.NO_DATA


def test_a_manual_trigger_without_a_date_takes_the_end_of_the_history(nights):
    run = nights.trigger(DAG, release="no")
    nights.wait(DAG, run)
    verdict = nights.verdict(DAG, run)
    assert f"{verdict.as_of:%Y-%m-%d}" == "2017-01-01"
    assert verdict.rows > 500
    assert verdict.outcome is not Outcome.FAILED, verdict.summary


def test_a_request_that_makes_no_sense_fails_at_once_and_says_why(nights):
    run = nights.trigger(DAG, as_of="2015-05-05", thresholds={"data_gate.min_row": 5}, reason="a typing error")
    states = nights.wait(DAG, run)
    assert states["plan"] == "failed"
    assert nights.run(DAG, run)["state"] == "failed"
    assert "did you mean 'min_rows'" in nights.verdict(DAG, run).error


def test_a_release_killed_in_the_middle_leaves_one_whole_version(nights, released):
    """The step's process is ended as soon as it holds the model's lock; the task's retry mends the rest."""
    before = nights.versions("taxi")
    lock = nights.paths.releases / "taxi" / ".lock"
    killed, over = [], threading.Event()

    def kill_whoever_takes_the_lock():
        while not over.is_set() and not killed:
            for pid in _processes_that_have_open(lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    watcher = threading.Thread(target=kill_whoever_takes_the_lock)
    watcher.start()
    try:
        run = nights.trigger(DAG, as_of="2015-05-08", release="yes")
        nights.wait(DAG, run)
    finally:
        over.set()
        watcher.join()
    assert killed, "the watcher saw nobody take the lock"
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    new = [version for version in nights.versions("taxi") if version not in before]
    assert new == [verdict.version]
    ReleaseStore(nights.paths.serving, nights.paths.releases, "taxi").disk.verify(verdict.version)
    assert not [name for name in os.listdir(nights.paths.serving / "taxi") if name.startswith(".staging-")]


def all_done(states):
    """Every task but the review of the schema, which only a night that waits for a person has."""
    return {task for task, state in states.items() if state != "success"} == {"schema_review", "data_gate_again"}


def _processes_that_have_open(path):
    """Pids of the processes that have `path` open, except this one."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == str(path):
                        yield pid
                        break


def test_a_night_in_which_nothing_changed_reuses_the_last_ones_work_and_releases_nothing(nights, released):
    (record,) = [record for record in _records(nights) if record.version == nights.versions("taxi")[-1]]
    as_of = Night.load(nights.folder(DAG, record.run_id) / "request.json").as_of.isoformat()
    before = nights.versions("taxi")

    run = nights.trigger(DAG, as_of=as_of, release="yes")
    states = nights.wait(DAG, run)
    verdict = nights.verdict(DAG, run)
    assert (verdict.outcome, states["release"]) == (Outcome.ACCEPTED, "skipped"), verdict.summary
    assert f"nothing has changed since {record.run_id}" in verdict.summary
    assert verdict.reused.keys() >= {"examples", "statistics", "transform", "trainer", "infra_validator"}
    assert nights.versions("taxi") == before
    assert f"reused: the same snapshot {verdict.snapshot_id[:12]}" in nights.log(DAG, run, "examples")

    nights.airflow.api("patch", "dags/rollback", json={"is_paused": False})
    rollback = nights.trigger("rollback", model="taxi", version="previous", reason="callers complain")
    assert set(nights.wait("rollback", rollback).values()) == {"success"}
    run = nights.trigger(DAG, as_of=as_of, release="yes")
    nights.wait(DAG, run)
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.HELD_MODEL, verdict.summary
    assert f"version {record.version}, which was taken back (rolled back" in verdict.summary
    assert nights.versions("taxi") == before[:-1], "what was taken back does not come back by itself"


def _records(nights):
    return ReleaseStore(nights.paths.serving, nights.paths.releases, "taxi").disk.records()
