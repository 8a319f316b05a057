"""What a run is asked to do, for each way it can be started."""

import datetime as dt
from types import SimpleNamespace

import pytest

from nightly.io.space import SpaceError
from nightly.models import config_of, load_config, read_schema_text, window_end
from nightly.nights.plan import plan_night, refuse_unknown_comparators
from nightly.records.base import ContractError
from nightly_airflow.operators.plan import PlanOperator, request_of

UTC = dt.UTC
NOW = dt.datetime(2026, 5, 5, 12, tzinfo=UTC)
EMPTY = {"as_of": None, "look_back_days": None, "train_steps": None, "fresh": False, "release": "auto"}
EMPTY |= {"thresholds": {}, "reason": ""}


def plan(run_type="manual", *, model="taxi", logical_date=None, end=None, user=None, now=NOW, **params):
    run = SimpleNamespace(
        run_id="a run", run_type=run_type, logical_date=logical_date, data_interval_end=end, triggering_user_name=user
    )
    request = request_of(run, {**EMPTY, **params}, now, "http://airflow/dags/taxi_retrain/runs/a")
    return plan_night(load_config(model), request, now=now, code_version="abc", production_version=1480000000)


def test_a_scheduled_night_is_as_of_the_end_of_its_interval_and_releases():
    night = plan(
        "scheduled", logical_date=dt.datetime(2016, 1, 1, 3, tzinfo=UTC), end=dt.datetime(2016, 1, 2, 3, tzinfo=UTC)
    )
    assert night.as_of == dt.datetime(2016, 1, 2, 3, tzinfo=UTC)
    assert night.window_start == night.as_of - dt.timedelta(days=365)
    assert (night.trigger, night.requested_by, night.release) == ("scheduled", "the schedule", True)
    assert night.production_version == 1480000000


def test_a_backfill_does_not_release_unless_asked():
    end = dt.datetime(2016, 1, 2, 3, tzinfo=UTC)
    assert plan("backfill", end=end).release is False
    assert plan("backfill", end=end, release="yes").release is True
    assert plan("scheduled", end=end, release="no").release is False


def test_a_manual_run_without_a_date_is_as_of_now_or_of_the_end_of_the_history():
    assert plan().as_of == dt.datetime(2017, 1, 1, tzinfo=UTC)  # where the taxi trips end
    before = dt.datetime(2015, 6, 1, tzinfo=UTC)
    assert plan(now=before).as_of == before


def test_a_manual_run_with_a_date_is_as_of_that_date_and_not_of_its_interval():
    date = dt.datetime(2016, 5, 5, 10, tzinfo=UTC)
    night = plan(logical_date=date, end=NOW, user="mary")
    assert (night.as_of, night.trigger, night.requested_by) == (date, "manual", "mary")


@pytest.mark.parametrize("kind", ["operator_triggered", "asset_triggered"])
def test_a_run_that_something_else_started_is_a_manual_one(kind):
    assert plan(kind).trigger == "manual"


def test_a_date_without_a_zone_is_utc_and_one_with_a_zone_keeps_it():
    assert plan(as_of="2016-01-02").as_of == dt.datetime(2016, 1, 2, tzinfo=UTC)
    assert plan(as_of="2016-01-02T03:00:00+02:00").as_of == dt.datetime(2016, 1, 2, 1, tzinfo=UTC)


def test_the_form_replaces_what_the_config_says():
    night = plan(as_of="2016-01-31", look_back_days=30, train_steps=7)
    assert (night.window_start, night.train_steps) == (dt.datetime(2016, 1, 1, tzinfo=UTC), 7)


def test_late_rows_move_the_whole_window_back():
    late = load_config("complaints").data.late_days
    night = plan(model="complaints", as_of="2016-01-31", look_back_days=30)
    assert window_end(night) == night.as_of - dt.timedelta(days=late)
    assert window_end(night) - night.window_start == dt.timedelta(days=30)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"as_of": "2030-01-01"}, "in the future: the latest possible is now, 2026-05-05T12:00Z"),
        ({"as_of": "soon"}, "'soon' is not a date; write 2016-03-01"),
        ({"thresholds": {"data_gate.min_rows": 5}}, "without a reason: say why"),
        ({"thresholds": {"data_gate.min_rows": 5}, "reason": "  "}, "without a reason: say why"),
        ({"thresholds": {"data_gate.min_row": 5}, "reason": "thin"}, "did you mean 'min_rows'?"),
        ({"thresholds": {"training.steps": 5}, "reason": "thin"}, "only data_gate"),
        ({"thresholds": {"data_gate.min_rows": -5}, "reason": "thin"}, "data_gate.min_rows: .*greater"),
        ({"thresholds": {"drift.fare": -1}, "reason": "thin"}, "'drift.fare' is -1: give a number, 0 or more"),
        ({"train_steps": 0}, "train_steps is 0: give 1 or more, or leave it out"),
        ({"look_back_days": 0}, "look_back_days is 0: give 1 or more, or leave it out"),
        ({"look_back_days": -3}, "look_back_days is -3"),
        ({"as_of": "0001-01-05"}, "no window of 365 days ends at 0001-01-05"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(params, message):
    with pytest.raises(ContractError, match=message):
        plan(**params)


def test_a_threshold_of_drift_that_the_schema_has_no_comparator_for_is_refused_with_the_nearest():
    schema = read_schema_text(load_config("taxi"))
    refuse_unknown_comparators({"drift.payment_type": 0.3, "data_gate.min_rows": 5}, schema)
    with pytest.raises(ContractError, match="no drift comparator for 'paymnt_type'; did you mean 'payment_type'"):
        refuse_unknown_comparators({"drift.paymnt_type": 0.3}, schema)


def test_thresholds_are_replaced_with_their_reason():
    night = plan(as_of="2016-01-02", thresholds={"data_gate.min_rows": 5, "drift.payment_type": 0.3}, reason=" thin ")
    assert config_of(night).data_gate.min_rows == 5
    assert night.override_reason == "thin"


def test_a_night_that_the_disk_has_no_room_for_is_not_planned(paths, monkeypatch):
    monkeypatch.setattr("nightly.nights.space.FIRST_NIGHT_BYTES", 2**80)
    monkeypatch.setattr("nightly_airflow.operators.plan.warn_of_missing_notes", lambda *_: None)
    operator = PlanOperator(task_id="plan", model="taxi", run_id="tonight")
    run = SimpleNamespace(conf={})
    with pytest.raises(SpaceError, match="a first night of taxi"):
        operator.perform({"dag": SimpleNamespace(params={}), "dag_run": run, "params": EMPTY})
    assert not (operator.folder / "request.json").exists()
