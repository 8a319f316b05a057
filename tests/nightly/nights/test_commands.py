"""The commands that a held night offers do what they say: Airflow's and ours parse them, and the thresholds lift."""

import datetime as dt
import json
import random
import shlex

import pytest

from nightly.models import load_config
from nightly.nights.causes import causes
from nightly.nights.commands import Request, lifting, remedies
from nightly.records.night import Night, Reason, breaks_threshold
from nightly.records.schema import SchemaProposal
from nightly.records.thresholds import ThresholdsUsed

AS_OF = dt.datetime(2016, 3, 1, 9, tzinfo=dt.UTC)
NIGHT = Request("taxi", "scheduled__2016-03-01T09:00:00+00:00", AS_OF, release=True)
USED = ThresholdsUsed(
    values={
        "data_gate.min_rows": 1000,
        "data_gate.max_missing_days": 0,
        "data_gate.max_rows_factor": 2,
        "data_gate.max_age_days": 3,
        "data_gate.controls.last_accepted": 1,
        "data_gate.controls.production": 1.5,
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
        (reason("max_rows_factor", "", 2.4, 2), {"data_gate.max_rows_factor": 2.4}),
        (reason("max_age_days", "day", 4, 3), {"data_gate.max_age_days": 4}),
        (reason("auc", "all examples", 0.5512, 0.6), {"model_gate.metrics.auc.floor": 0.55}),
        (reason("auc", "all examples", -0.0512, 0.6), {"model_gate.metrics.auc.floor": -0.052}),
        (reason("auc", "all examples", -1.61, -1.0), {"model_gate.metrics.auc.floor": -1.7}),
        (reason("auc", "all examples", 0.0, 0.6), {"model_gate.metrics.auc.floor": 0.0}),
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


def a_number(chance: random.Random) -> float:
    return float(f"{chance.choice((0, 1, 1, 1)) * 10 ** chance.uniform(-5, 4):.6g}")


def a_bound_of_a_metric(chance, bound):
    sign = -1 if bound == "floor" else 1
    figure = chance.choice((-1, 1)) * a_number(chance)
    held = reason("loss", "all examples", figure, figure - sign * (a_number(chance) + 0.1))
    return held, f"model_gate.metrics.loss.{bound}", held.threshold, lambda value: sign * figure <= sign * value


def a_change_of_a_metric(chance, bound):
    sign, allowed = -1 if bound == "max_drop" else 1, a_number(chance)
    worse = allowed + a_number(chance) + 0.1
    held = reason("loss against production", "all examples", sign * worse, sign * allowed)
    return held, f"model_gate.metrics.loss.{bound}", allowed, lambda value: worse <= value


def a_check_of_the_data(chance, check):
    """Return a finding against a control, whose factor multiplies the threshold unless chance allows more."""
    subject, control = chance.choice(("fare", "min_fare", "fare.floor")), chance.choice(("", "production"))
    factor, base = 1.5 if control else 1, chance.choice((int, float))(a_number(chance))
    least = chance.choice((0, a_number(chance))) if check == "max_missing_change" and base and control else 0
    threshold = max(base * factor, least)
    lower = check.startswith("min_")
    figure = float(f"{threshold * chance.random() if lower else threshold + a_number(chance) + 0.1:.6g}")
    key = f"{check}.{subject}" if check in ("drift", "skew") else f"data_gate.{check}"

    def lifts(value):
        return not breaks_threshold(check, figure, float(f"{max(value * factor, least):.6g}"))

    return reason(check, subject, figure, threshold, control=control), key, base, lifts


@pytest.mark.parametrize(
    "finding, of",
    [
        (a_bound_of_a_metric, "floor"),
        (a_bound_of_a_metric, "ceiling"),
        (a_change_of_a_metric, "max_drop"),
        (a_change_of_a_metric, "max_rise"),
        *((a_check_of_the_data, name) for name in ("min_rows", "max_age_days", "max_missing_change", "drift", "skew")),
    ],
)
def test_a_proposed_threshold_always_lifts_the_finding(finding, of):
    chance = random.Random(0)
    for _ in range(300):
        held, key, base, lifts = finding(chance, of)
        controls = {name: USED.values[name] for name in USED.values if "controls" in name}
        thresholds = lifting([held], USED.model_copy(update={"values": {key: base, **controls}}))
        assert thresholds and lifts(thresholds[key]), (held, thresholds)


def test_a_gate_that_has_nothing_but_the_constant_answer_cannot_do_without_it():
    used = USED.model_copy(update={"values": {"model_gate.must_beat_constant": True}})
    assert lifting([reason("better_than_constant", "all examples", -0.01, 0)], used) is None


def test_lost_classes_have_no_factor():
    used = USED.model_copy(update={"values": {"data_gate.max_lost_classes": 1, "data_gate.controls.last_accepted": 2}})
    assert lifting([reason("max_lost_classes", "tip", 3, 1, control="last_accepted")], used) == {
        "data_gate.max_lost_classes": 3
    }


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


def planned(**changes) -> Night:
    config = load_config("taxi")
    night = Night(
        model="taxi",
        run_id=NIGHT.run_id,
        trigger="manual",
        requested_by="ann",
        as_of=AS_OF,
        window_start=config.data.window_start(AS_OF),
        release=True,
        train_steps=config.training.steps,
        code_version="abc",
        planned_at=AS_OF,
    )
    return night.model_copy(update=changes)


def conf_of(command: str) -> dict:
    return json.loads(shlex.split(command)[5])


def test_the_same_night_has_what_its_run_was_given():
    assert conf_of(Request.of(planned()).again()) == {"as_of": AS_OF.isoformat()}, "the config gives the rest"
    parameters = {
        "train_steps": 7,
        "fresh": True,
        "overrides": {"data_gate.min_rows": 100},
        "override_reason": "a holiday",
    }
    late = load_config("taxi").data.late_days
    night = planned(**parameters, window_start=AS_OF - dt.timedelta(days=late + 12), release=False)
    assert conf_of(Request.of(night).again()) == {
        "as_of": AS_OF.isoformat(),
        "release": "no",
        "train_steps": 7,
        "look_back_days": 12,
        "fresh": True,
        "thresholds": {"data_gate.min_rows": 100},
        "reason": "a holiday",
    }


def test_what_a_run_replaced_stays_replaced_when_another_finding_is_lifted():
    night = planned(overrides={"data_gate.min_rows": 100, "drift.company": 0.04}, override_reason="a holiday")
    _, right = remedies(Request.of(night), causes([reason("drift", "company", 0.07, 0.04)]), USED, None)
    conf = conf_of(right.command)
    assert conf["thresholds"] == {"data_gate.min_rows": 100, "drift.company": 0.07}
    assert conf["reason"] == "a holiday; WHY"


def test_a_night_by_command_has_its_own_options_again():
    night = planned(trigger="command", train_steps=7, fresh=True, source_address="/data/a b.csv")
    options = "--as-of 2016-03-01T09:00:00+00:00 --train-steps 7 --fresh --source '/data/a b.csv' --release"
    assert Request.of(night).again() == f"bin/night taxi {options}"
    signed = Request.of(night.model_copy(update={"source_address": "https://store/a.csv?signature=1234"})).again()
    assert "--source 'https://store/a.csv?***'" in signed
    held = causes([reason("drift", "company", 0.07, 0.04)])
    assert [remedy.when for remedy in remedies(Request.of(night), held, USED, None)] == [
        "If the data was wrong, once the source is fixed"
    ], "no command takes both a source and thresholds"


def test_a_night_of_a_model_that_is_gone_has_a_command_too():
    assert conf_of(Request.of(planned(model="gone", fresh=True)).again()) == {"as_of": AS_OF.isoformat(), "fresh": True}


def test_a_withdrawn_model_is_not_trained_again_on_the_same_data():
    held = reason("withdrawn", "version 1", None, None)
    assert remedies(NIGHT, causes([held]), USED, None) == []
