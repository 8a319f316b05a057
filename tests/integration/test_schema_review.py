"""A new category in real trips, through a real Airflow: the night waits for a person, and goes on or stays held."""

import csv
import time

import pytest

from nightly.io.polling import poll
from nightly.records.night import GateResult, Night
from nightly.records.verdict import Outcome
from nightly.schemas.store import SchemaStore
from tests.support.airflow_nights import NIGHT_SECONDS

DAG = "taxi_retrain"


@pytest.fixture
def paid_by(nights, trips):
    """Let every thirtieth trip be paid in this way; put back at the end."""
    source = nights.var / "source" / "trips.csv"

    def write(name):
        with trips.open(newline="") as rows, source.open("w", newline="") as out:
            reader = csv.DictReader(rows)
            writer = csv.DictWriter(out, reader.fieldnames)
            writer.writeheader()
            writer.writerows(row | ({} if n % 30 else {"payment_type": name}) for n, row in enumerate(reader))

    yield write
    source.write_bytes(trips.read_bytes())


def asked(nights, run, after=0, seconds=NIGHT_SECONDS):
    """What the person sees, once the night waits; in a later try than `after`."""
    details = poll(
        lambda: [d for d in questions(nights, run) if d["task_instance"]["try_number"] > after],
        every=0.5,
        seconds=seconds,
    )
    assert details, f"{run} does not wait: {nights.states(DAG, run)}"
    return details[0]


def questions(nights, run):
    """What waits for an answer."""
    details = nights.airflow.api("get", f"dags/{DAG}/dagRuns/{run}/hitlDetails")["hitl_details"]
    return [d for d in details if d["task_instance"]["state"] == "awaiting_input" and not d["response_received"]]


def answer(nights, run, option, reason):
    """As the UI's buttons do, by a person who has read what is asked."""
    time.sleep(2)
    path = f"dags/{DAG}/dagRuns/{run}/taskInstances/schema_review/-1/hitlDetails"
    nights.airflow.api("patch", path, json={"chosen_options": [option], "params_input": {"reason": reason}})


def decide(nights, run, option, reason):
    """Answer, and wait for the night's end; the tasks' states.

    A question that comes back is answered again. Airflow loses an answer that is there before its scheduler has heard
    that the process which asked has ended: it takes that end for the resumed task's, as failed, and the retry asks.
    """
    return nights.wait(DAG, run, meanwhile=lambda: questions(nights, run) and answer(nights, run, option, reason))


def test_an_approved_change_lets_the_night_go_on_and_a_rejected_one_does_not(nights, paid_by):
    before = SchemaStore(nights.paths, "taxi").current()
    paid_by("Mobile <b>`1`</b>")
    run = nights.trigger(DAG, as_of="2015-06-10", release="no")
    detail = asked(nights, run)
    assert detail["subject"] == "taxi, 2015-06-10: approve new values of payment_type?"
    assert detail["options"] == ["Approve", "Reject"] and "reason" in detail["params"]
    assert '+  value: "Mobile <b>`1`</b>"' in detail["body"]
    assert r"Mobile \<b\>\`1\`\</b\>: " in detail["body"], "what comes from the data is text, not markup"
    assert nights.states(DAG, run)["transform"] is None

    answer(nights, run, "Approve", " ")
    asked(nights, run, after=detail["task_instance"]["try_number"])
    assert SchemaStore(nights.paths, "taxi").current() == before, "without a reason nothing is approved"
    states = decide(nights, run, "Approve", "people pay by phone now")
    assert states["model_gate"] == states["data_gate_again"] == "success"
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.ACCEPTED, verdict.summary
    assert verdict.schema_version == before + 1
    assert verdict.schema_note == f"version {before + 1} (approved by admin: people pay by phone now)"
    assert GateResult.load(nights.folder(DAG, run) / "data_gate.json").passed
    version = SchemaStore(nights.paths, "taxi").version(before + 1)
    assert (version.approved_by, version.run_id) == ("admin", run)

    paid_by("Barter")
    run = nights.trigger(DAG, as_of="2015-06-11", release="no")
    assert "Barter" in asked(nights, run)["body"]
    assert Night.load(nights.folder(DAG, run) / "request.json").schema_version == before + 1
    states = decide(nights, run, "Reject", "nobody barters")
    assert states["transform"] == states["data_gate_again"] == "skipped"
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.HELD_DATA
    assert "admin rejected the proposed schema change: nobody barters" in verdict.summary
    assert SchemaStore(nights.paths, "taxi").current() == before + 1

    nights.clear(DAG, run, "transform")
    assert nights.wait(DAG, run)["transform"] == "skipped", "clearing what is behind it does not get around the answer"

    paid_by("Cheque")
    nights.clear(DAG, run, "download", downstream=True)
    assert nights.wait(DAG, run)["transform"] == "skipped"
    assert "Airflow shows only a run's first proposal" in nights.verdict(DAG, run).summary
