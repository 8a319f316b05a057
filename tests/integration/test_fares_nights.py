"""Nights of a model whose label is a number, through a real scheduler: released, served, and held for a wrong unit."""

import csv
from pathlib import Path

import pytest
import requests

from nightly.records.golden import GOLDEN, Golden
from nightly.records.night import GateResult
from nightly.records.verdict import Outcome

DAG = "fares_retrain"


@pytest.fixture(scope="module")
def released(nights):
    """Two nights of a backfill that is asked to release."""
    return nights.backfilled(DAG, "2015-05-01", "2015-05-02", release="yes")


def test_two_nights_release_and_the_second_is_compared_with_the_first(nights, released):
    verdicts = [nights.verdict(DAG, run) for run in released]
    assert [verdict.outcome for verdict in verdicts] == [Outcome.RELEASED] * 2, [v.summary for v in verdicts]
    reasons = GateResult.load(nights.folder(DAG, released[1]) / "model_gate.json").reasons
    checks = {reason.check for reason in reasons}
    assert {"mean_absolute_error", "mean_absolute_error against production", "better_than_constant"} <= checks


def test_the_release_answers_in_dollars(nights, released):
    version = nights.verdict(DAG, released[1]).version
    golden = Golden.load(nights.paths.serving / "fares" / str(version) / GOLDEN)
    answer = requests.post(
        f"{nights.server.url}/v1/models/fares/labels/stable:predict",
        json={"instances": [{"b64": example.example_base64} for example in golden.examples]},
        timeout=60,
    )
    fares = [value[0] for value in answer.json()["predictions"]]
    assert fares == pytest.approx([e.outputs["prediction"][0] for e in golden.examples], rel=1e-4)
    assert all(2 < fare < 100 for fare in fares)


def test_the_page_in_airflow_draws_the_number_and_its_model(nights, released):
    night = nights.folder(DAG, released[1]).name
    page = nights.airflow.page(f"/nightly/fares/nights/{night}")
    assert page.ok, page.text[:500]
    for words in ("<h2>The label</h2>", "Calibration", "Residuals", "Beside a constant answer"):
        assert words in page.text


def test_fares_in_cents_hold_the_night(nights, released, trips):
    source = nights.var / "source" / "trips.csv"
    in_cents(trips, source)
    try:
        run = nights.trigger(DAG, as_of="2015-05-03", release="yes")
        states = nights.wait(DAG, run)
    finally:
        source.write_bytes(trips.read_bytes())
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome is Outcome.HELD_DATA and states["trainer"] == "skipped"
    assert ("max_label_change", "fare") in [(reason.check, reason.subject) for reason in verdict.reasons if reason.held]


def in_cents(source: Path, target: Path) -> None:
    with source.open(newline="") as read, target.open("w", newline="") as written:
        rows = csv.DictReader(read)
        out = csv.DictWriter(written, rows.fieldnames)
        out.writeheader()
        for row in rows:
            fare = row["fare"] and str(round(float(row["fare"]) * 100))
            out.writerow(row | {"fare": fare})
