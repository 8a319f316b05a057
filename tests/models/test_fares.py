"""The model of taxi fares on its real data: ordinary nights pass its schema and checks, and breaks are caught."""

import datetime as dt

import pandas as pd
import pytest

from nightly.models import load_config
from tests.models.test_schemas import errors
from tests.support.judged_nights import days_of, judge_night, source_rows
from tests.support.trial_night import read_schema, rows_of, split

FARES = load_config("fares")


def test_no_input_is_known_only_after_the_trip_or_depends_on_the_fare():
    inputs = {feature.name for feature in read_schema(FARES).feature} - {FARES.data.label.column}
    assert not inputs & {"tips", "big_tipper", "trip_miles", "trip_seconds", "payment_type"}


def test_thresholds_of_columns_that_taxi_reads_too_are_the_same():
    """Both models have the same trips and windows."""
    taxi = {feature.name: feature for feature in read_schema(load_config("taxi")).feature}
    for feature in read_schema(FARES).feature:
        shared = taxi[feature.name]
        assert (feature.drift_comparator, feature.skew_comparator) == (shared.drift_comparator, shared.skew_comparator)


@pytest.mark.parametrize("as_of", ["2013-06-30", "2015-07-01", "2016-12-15"])
def test_ordinary_nights_pass(as_of):
    tomorrow = (dt.date.fromisoformat(as_of) + dt.timedelta(days=1)).isoformat()
    sides = split(rows_of(FARES, tomorrow), FARES.data.eval_percent)
    before = split(rows_of(FARES, as_of), FARES.data.eval_percent)["train"]
    assert errors(sides["train"], FARES, before=before, beside=sides["eval"]) == {}


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("fare", lambda value: str(float(value) * 100)),  # cents
        ("fare", lambda value: str(-float(value))),
        ("dropoff_latitude", lambda value: "-87.6"),  # swapped with the longitude
        ("trip_start_hour", lambda value: str((int(value) + 6) % 24)),  # another time zone
    ],
)
def test_a_broken_column_is_caught(feature, change):
    rows = rows_of(FARES, "2015-07-01")
    broken = [row | {feature: change(row[feature])} for row in rows]
    assert feature in errors(broken, FARES, before=rows)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Judge a night against clean ones of a day, ten days, four weeks and a year before."""
    trips = source_rows("taxi")

    def judged(as_of, fault=lambda rows: rows):
        controls = {
            name: judge_night(
                "fares",
                str((pd.Timestamp(as_of) - pd.Timedelta(days=ago)).date()),
                tmp_path_factory.mktemp("control"),
                rows=trips,
            )
            for name, ago in (("last_accepted", 1), ("production", 10), ("same_weekday", 28), ("same_season", 364))
        }
        return judge_night("fares", as_of, tmp_path_factory.mktemp("night"), rows=trips, fault=fault, controls=controls)

    return judged


@pytest.mark.slow
@pytest.mark.parametrize("as_of", ["2014-09-05", "2016-06-24", "2016-12-29"])
def test_an_ordinary_night_is_not_held(judged, as_of):
    assert judged(as_of).held == set()


@pytest.mark.slow
def test_fares_that_rise_by_a_tenth_are_held(judged):
    """Every tariff of the year before is gone: a person says that this is so, or finds the taxes added by mistake.

    Fares from and to the airport, area 76, are so alike that a tenth moves half of them beyond the earlier median.
    """
    night = judged("2015-06-01", lambda rows: rows.assign(fare=(rows.fare.astype(float) * 1.1).map(str)))
    areas = ("pickup_community_area", "dropoff_community_area")
    assert night.held == {("max_label_change", "fare"), *(("max_label_change_by_value", area) for area in areas)}
    assert {night.reason("max_label_change_by_value", area).values[0].value for area in areas} == {"76"}
    assert "median is 8.855" in night.reason("max_label_change", "fare").message


@pytest.mark.slow
def test_a_single_day_in_cents_is_outside_the_domain(judged):
    """A day is too little of a year to change the distribution."""

    def cents(rows):
        newest = days_of(rows) >= pd.Timestamp("2015-05-31")
        return rows.assign(fare=rows.fare.mask(newest, (rows.fare.astype(float) * 100).map(str)))

    night = judged("2015-06-01", cents)
    assert night.held == {("schema", "fare")}
