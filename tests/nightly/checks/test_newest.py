"""Nights whose eval split is the newest days: change over time does not hold, and a fault of these days does."""

import pytest

from nightly.models import load_config
from nightly.nights.replay import Thresholds
from nightly.records.config import ModelConfig
from nightly.records.night import NEWEST_DAYS
from tests.support.judged_nights import judge_night

NEWEST = 1_430_438_400  # 2015-05-01


@pytest.fixture(scope="module")
def config():
    config = load_config("taxi").model_dump()
    return ModelConfig.parse(config | {"data": config["data"] | {"eval": "newest"}}, where="test")


@pytest.fixture(scope="module")
def control(config, tmp_path_factory):
    return {"last_accepted": judge_night("taxi", "2015-05-31", tmp_path_factory.mktemp("control"), config=config)}


def test_change_over_time_is_a_warning(config, control, tmp_path):
    judged = judge_night("taxi", "2015-06-01", tmp_path, config=config, controls=control)
    assert judged.held == set()
    month = judged.reason("skew", "trip_start_month", NEWEST_DAYS)
    assert month.figure > month.threshold and (month.held, month.severity) == (False, "warning")
    assert "away from the newest days, which are held out" in month.message
    assert not Thresholds(config, {"skew.trip_start_month": 0.01}).holds(month), "no other threshold would have held it"


def test_a_fault_of_the_newest_days_is_seen_though_no_row_of_them_is_trained_on(config, control, tmp_path):
    def metres(rows):
        """Write the miles of the newest days as if in metres."""
        newest = rows.trip_start_timestamp.astype(int) >= NEWEST
        thousandfold = rows.trip_miles.where(~newest | (rows.trip_miles == ""), rows.trip_miles + "e3")
        return rows.assign(trip_miles=thousandfold)

    judged = judge_night("taxi", "2015-06-01", tmp_path, fault=metres, config=config, controls=control)
    held = [reason.message for reason in judged.reasons if reason.held and reason.subject == "trip_miles"]
    assert any(message.startswith("in the newest days, trip_miles goes to 52600") for message in held), held
