"""The commands that a held night offers do what they say: Airflow's and ours parse them, and the thresholds lift."""

import datetime as dt
import json
import shlex

import pytest

from nightly.models import load_config
from nightly.nights.causes import causes
from nightly.nights.commands import Request, lifting, remedies
from nightly.records.night import Reason
from nightly.records.schema import SchemaProposal
from nightly.records.thresholds import ThresholdsUsed

AS_OF = dt.datetime(2016, 3, 1, 9, tzinfo=dt.UTC)
NIGHT = Request("taxi", "scheduled__2016-03-01T09:00:00+00:00", AS_OF, release=True)
USED = ThresholdsUsed(
    values={
        "data_gate.min_rows": 1000,
        "data_gate.max_missing_days": 0,
        "data_gate.max_label_change": 0.05,
        "drift.company": 0.04,
        "model_gate.metrics.auc.floor": 0.6,
        "model_gate.metrics.auc.max_drop": 0.08,
        "model_gate.slice_metrics.auc.max_drop": 0.1,
        "model_gate.class_metrics.recall.floor": 0.5,
    },
    schema_version=0,
    schema_sha256="ab",
    code_version="abc",
)


def reason(check, subject, figure, threshold, **more):
    return Reason(check=check, subject=subject, figure=figure, threshold=threshold, held=True, message="far", **more)


CANNOT_TELL = reason("auc against production", "all examples", -0.05, -0.08).model_copy(
    update={
        "message": "auc is 0.9000, and 0.9500 in production; 0.08 worse is allowed; 90 examples cannot tell",
        "undecided": True,
    }
)


@pytest.mark.parametrize(
    "held, thresholds",
    [
        (reason("min_rows", "", 943, 1000), {"data_gate.min_rows": 940}),
        (reason("max_missing_days", "day", 3, 0), {"data_gate.max_missing_days": 3}),
        (reason("drift", "company", 0.0701, 0.06, control="production"), {"drift.company": 0.047}),
        (reason("auc", "all examples", 0.5512, 0.6), {"model_gate.metrics.auc.floor": 0.55}),
        (reason("auc against production", "all examples", -0.0912, -0.08), {"model_gate.metrics.auc.max_drop": 0.092}),
        (reason("auc against production", "a=b", -0.31, -0.1), {"model_gate.slice_metrics.auc.max_drop": 0.31}),
        (reason("better_than_constant", "all examples", -0.01, 0), {"model_gate.must_beat_constant": False}),
        (CANNOT_TELL, {"model_gate.undecided": "release"}),
        (reason("constant_feature", "company", "A", "more than one value"), None),
        (reason("drift", "fare", 0.3, 0.1), None),
    ],
)
def test_the_thresholds_are_those_under_which_it_would_not_have_held(held, thresholds):
    assert lifting([held], USED) == thresholds
    if thresholds:
        load_config("taxi").with_overrides(thresholds)  # the config takes them


def test_the_floor_of_a_class_is_lowered_for_all_classes():
    assert lifting([reason("recall:Cash", "all examples", 0.3, 0.5)], USED) == {
        "model_gate.class_metrics.recall.floor": 0.3
    }


def test_without_a_record_of_the_thresholds_none_is_proposed():
    assert lifting([reason("min_rows", "", 943, 1000)], None) is None


def test_a_held_night_is_run_again_as_of_the_same_time_with_all_that_held_it_lifted():
    held = [reason("drift", "company", 0.07, 0.04), reason("max_label_change", "tip", 0.07, 0.05)]
    wrong, right = remedies(NIGHT, causes(held), USED, None)
    words = shlex.split(right.command)
    assert words[:5] == ["bin/airflow", "dags", "trigger", "taxi_retrain", "--conf"]
    conf = json.loads(words[5])
    assert conf["thresholds"] == {"drift.company": 0.07, "data_gate.max_label_change": 0.07}
    assert dt.datetime.fromisoformat(conf["as_of"]) == AS_OF and conf["reason"]
    assert json.loads(shlex.split(wrong.command)[5]) == {"as_of": conf["as_of"]}


def test_a_proposed_schema_is_approved_before_the_night_runs_again():
    proposal = SchemaProposal(
        model="taxi",
        run_id=NIGHT.run_id,
        as_of=AS_OF,
        base_version=0,
        base_sha256="ab",
        changes=[],
        diff="",
        text="",
        left=[],
        proposed_at=AS_OF,
    )
    found = causes([reason("schema", "company", "Unexpected string values", "the curated schema")])
    *_, right = remedies(NIGHT, found, USED, proposal)
    approve, again = right.command.splitlines()
    assert approve == f"bin/schema approve taxi {NIGHT.run_id} --reason WHY"
    assert "thresholds" not in again
    (remedy,) = remedies(NIGHT, found, USED, None)
    assert remedy.when == "If the data was wrong, once the source is fixed"


def test_a_night_that_was_not_to_release_is_not_released_by_running_it_again():
    words = Request("taxi", "backfill__2016-03-01T09:00:00+00:00", AS_OF, release=False).again()
    assert '"release": "no"' in words
    assert Request("taxi", "command__20160301T090000", AS_OF, release=True, by_command=True).again() == (
        "bin/night taxi --as-of 2016-03-01T09:00:00+00:00 --release"
    )
