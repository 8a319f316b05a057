"""Faults planted in real data, each caught and called by its name; and ordinary nights, none of them held."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from nightly.checks import AGAINST_CONTROLS
from nightly.snapshots.errors import TooManyRejectedError
from tests.support.data import COMPLAINTS
from tests.support.judged_nights import days_of, judge_night, source_rows

TAXI_NIGHT, COMPLAINTS_NIGHT = "2015-06-01", "2016-03-05"
CONTROLS = {
    "taxi": {
        "last_accepted": "2015-05-31",
        "production": "2015-05-22",
        "same_weekday": "2015-05-04",
        "same_season": "2014-06-02",
    },
    "complaints": {"last_accepted": "2016-03-04", "production": "2016-02-28"},
}


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    """model -> control -> a clean night."""
    judged = {}

    def of(model):
        if model not in judged:
            if model == "complaints" and not COMPLAINTS.exists():
                pytest.skip(f"{COMPLAINTS} is not here")
            judged[model] = {
                name: judge_night(model, as_of, tmp_path_factory.mktemp("control"))
                for name, as_of in CONTROLS[model].items()
            }
        return judged[model]

    return of


def where(column, value, change):
    """Change the rows in which `column` has `value`."""

    def fault(rows):
        chosen = rows[column] == value
        rows.loc[chosen] = change(rows[chosen].copy())
        return rows

    return fault


def of_days(first, last, change):
    """Change the rows of these days, both included."""

    def fault(rows):
        days = days_of(rows)
        chosen = (days >= first) & (days < pd.Timestamp(last) + pd.Timedelta(days=1))
        return pd.concat([rows[~chosen], change(rows[chosen].copy())])

    return fault


def times(column, factor):
    return lambda rows: rows.assign(**{column: (rows[column].replace("", "nan").astype(float) * factor).map(_text)})


def _text(number):
    return "" if np.isnan(number) else f"{number:.6f}".rstrip("0").rstrip(".")


def blank(column):
    return lambda rows: rows.assign(**{column: ""})


def flip_label(rows):
    return rows.assign(big_tipper=rows.big_tipper.map({"0": "1", "1": "0"}))


def flip_dispute(rows):
    flipped = rows["Consumer disputed?"].map({"Yes": "No", "No": "Yes", "": ""})
    return rows.assign(**{"Consumer disputed?": flipped})


def split_mortgage(rows):
    halves = np.where(np.arange(len(rows)) % 2, "Mortgage, conventional", "Mortgage, government")
    return rows.assign(Product=halves)


def shift_hours(rows):
    """UTC written where Chicago's time was."""
    hours = (rows.trip_start_hour.astype(int) + 6) % 24
    return rows.assign(trip_start_hour=hours.astype(str))


def swap(one, other):
    return lambda rows: rows.assign(**{one: rows[other], other: rows[one]})


def latin(rows):
    """A byte that is no UTF-8, in every twentieth company."""
    strange = np.arange(len(rows)) % 20 == 0
    return rows.assign(Company=rows.Company.where(~strange, rows.Company + "\udce9"))


TAXI_FAULTS = {
    "a column dropped": (lambda rows: rows.drop(columns="payment_type"), ("schema", "payment_type")),
    "a column renamed": (lambda rows: rows.rename(columns={"company": "taxi_company"}), ("schema", "company")),
    "a column retyped": (lambda rows: rows.assign(trip_seconds=rows.trip_seconds + " s"), ("schema", "trip_seconds")),
    "a column added": (lambda rows: rows.assign(surge="1.2"), ("schema", "surge")),
    "units changed by 1,000": (times("trip_miles", 1000), ("max_scale_factor", "trip_miles")),
    "units changed back by 1,000": (times("fare", 0.001), ("max_scale_factor", "fare")),
    "units changed in one company": (
        where("company", "Dispatch Taxi Affiliation", times("trip_seconds", 1000)),
        ("max_range_factor", "trip_seconds"),
    ),
    "a category renamed": (
        where("payment_type", "Cash", lambda r: r.assign(payment_type="CASH")),
        ("schema", "payment_type"),
    ),
    "a company renamed": (
        where("company", "Dispatch Taxi Affiliation", lambda rows: rows.assign(company="Dispatch Affiliation Inc.")),
        ("max_unseen_share", "company"),
    ),
    "a label flipped for one company": (
        where("company", "Choice Taxi Association", flip_label),
        ("max_label_change_by_value", "company"),
    ),
    "a day doubled": (
        of_days("2015-05-13", "2015-05-13", lambda rows: pd.concat([rows, rows])),
        ("max_duplicate_share", ""),
    ),
    "a day missing": (
        of_days("2015-05-13", "2015-05-13", lambda rows: rows.head(0)),
        ("max_missing_days", "trip_start_timestamp"),
    ),
    "half of the rows of a week missing": (
        of_days("2015-05-04", "2015-05-10", lambda rows: rows.iloc[::2]),
        ("min_week_share", "trip_start_timestamp"),
    ),
    "the last days missing": (
        of_days("2015-05-20", "2015-05-31", lambda rows: rows.head(0)),
        ("max_age_days", "trip_start_timestamp"),
    ),
    "the time zone shifted": (shift_hours, ("drift", "trip_start_hour")),
    "a null burst of a day": (of_days("2015-05-13", "2015-05-13", blank("payment_type")), ("schema", "payment_type")),
    "a null burst of six weeks": (
        of_days("2015-04-15", "2015-05-31", blank("dropoff_community_area")),
        ("max_missing_change", "dropoff_community_area"),
    ),
    "a sudden drift": (
        of_days("2015-04-01", "2015-05-31", lambda rows: rows.assign(payment_type="Cash")),
        ("drift", "payment_type"),
    ),
    "latitude and longitude swapped": (swap("pickup_latitude", "pickup_longitude"), ("schema", "pickup_latitude")),
    "a constant": (lambda rows: rows.assign(trip_start_day="1"), ("constant_feature", "trip_start_day")),
    "half of the rows": (lambda rows: rows.iloc[::3], ("max_rows_factor", "")),
    "every label positive": (lambda rows: rows.assign(big_tipper="1"), ("constant_label", "big_tipper")),
}
COMPLAINTS_FAULTS = {
    "no company column": (lambda rows: rows.drop(columns="Company"), ("schema", "company")),
    "a category split": (where("Product", "Mortgage", split_mortgage), ("max_unseen_share", "product")),
    "a label flipped for one company": (
        where("Company", "Equifax", flip_dispute),
        ("max_label_change_by_value", "company"),
    ),
    "the label gone": (blank("Consumer disputed?"), ("min_label_share", "consumer_disputed")),
    "a day doubled": (
        of_days("2016-02-16", "2016-02-16", lambda rows: pd.concat([rows, rows])),
        ("max_duplicate_share", ""),
    ),
    "a null burst of ten days": (of_days("2016-02-08", "2016-02-17", blank("State")), ("max_missing_change", "state")),
    "one channel only": (lambda rows: rows.assign(**{"Submitted via": "Web"}), ("constant_feature", "submitted_via")),
}


def caught(model, night, folder, fault, expected, controls):
    """The finding that names the fault; it says all that a person needs."""
    judged = judge_night(model, night, folder, fault=fault, controls=controls)
    assert expected in judged.held, [(r.check, r.subject, r.figure, r.threshold) for r in judged.reasons if r.held]
    reason = judged.reason(*expected)
    held = [r for r in judged.reasons if (r.check, r.subject) == expected and r.held]
    assert all(r.message and r.action and r.severity == "error" and r.threshold is not None for r in held)
    return judged, reason


@pytest.mark.slow
@pytest.mark.parametrize("name", TAXI_FAULTS)
def test_a_fault_in_the_trips_is_caught(name, controls, tmp_path):
    fault, expected = TAXI_FAULTS[name]
    caught("taxi", TAXI_NIGHT, tmp_path, fault, expected, controls("taxi"))


@pytest.mark.parametrize("name", COMPLAINTS_FAULTS)
def test_a_fault_in_the_complaints_is_caught(name, controls, tmp_path):
    fault, expected = COMPLAINTS_FAULTS[name]
    caught("complaints", COMPLAINTS_NIGHT, tmp_path, fault, expected, controls("complaints"))


@pytest.mark.parametrize(
    ("model", "night", "fault", "words"),
    [
        (
            *("taxi", TAXI_NIGHT),
            lambda rows: rows.assign(trip_seconds=rows.trip_seconds.where(np.arange(len(rows)) % 20 > 0, "a while")),
            "number.*trip_seconds",
        ),
        ("complaints", COMPLAINTS_NIGHT, latin, "encoding"),
        (
            "complaints",
            COMPLAINTS_NIGHT,
            lambda rows: rows.assign(
                **{"Date received": pd.to_datetime(rows["Date received"]).dt.strftime("%Y-%m-%d")}
            ),
            "time",
        ),
    ],
    ids=["some values retyped", "encoding broken", "dates written otherwise"],
)
def test_rows_that_cannot_be_read_stop_the_night_before_the_gate(model, night, fault, words, controls, tmp_path):
    controls(model)
    with pytest.raises(TooManyRejectedError, match=words):
        judge_night(model, night, tmp_path, fault=fault)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "night", "ago"),
    [
        *(("taxi", night, (1, 10, 28, 364)) for night in ("2014-07-15", "2015-02-01", "2015-12-10")),
        *(("taxi", night, (1, 10, 28, 364)) for night in ("2016-02-10", "2016-09-01", "2016-12-31")),
        *(("complaints", night, (1, 5)) for night in ("2016-02-25", "2016-03-05")),
        *(("complaints", night, (1, 5, 28)) for night in ("2016-03-10", "2016-03-14")),
    ],
)
def test_an_ordinary_night_is_not_held(model, night, ago, controls, tmp_path):
    controls(model)
    day = pd.Timestamp(night)
    clean = {
        name: judge_night(model, str((day - pd.Timedelta(days=days)).date()), tmp_path / name)
        for name, days in zip(("last_accepted", "production", "same_weekday", "same_season"), ago, strict=False)
    }
    judged = judge_night(model, night, tmp_path, controls=clean)
    assert judged.held == set()
    unsaid = {"last_accepted", "production", "same_weekday", "same_season"} - set(clean)
    assert {r.control for r in judged.reasons if r.check == "drift" and r.figure is None and not r.subject} == unsaid


def test_the_first_night_passes_and_says_what_was_not_measured(tmp_path):
    judged = judge_night("taxi", TAXI_NIGHT, tmp_path)
    assert judged.held == set()
    unmeasured = {(r.check, r.control) for r in judged.reasons if r.figure is None}
    assert unmeasured >= {(name, "") for name in AGAINST_CONTROLS}
    assert unmeasured >= {("drift", name) for name in CONTROLS["taxi"]} | {("skew", "serving"), ("max_rows_factor", "")}


@pytest.mark.slow
def test_a_slow_drift_of_thirty_nights_is_seen_by_the_far_controls_and_never_by_the_last_night(tmp_path):
    """Each night 0.4 % more of all trips are paid in cash; each is accepted, and none released after the first."""
    rows = source_rows("taxi")
    card = np.flatnonzero(rows.payment_type == "Credit Card")
    order = np.random.default_rng(0).permutation(card)
    nights, first_held = [], {}
    start = pd.Timestamp("2015-05-01")
    for number in range(31):
        drifted = rows.copy()
        share = 0.004 * number / 0.38  # of the 38 % that pay by card
        drifted.loc[order[: int(share * len(order))], "payment_type"] = "Cash"
        against = {}
        if number in (1, 10, 20, 28, 29, 30):
            against = {"last_accepted": nights[-1], "production": nights[0]}
            if number >= 28:
                against["same_weekday"] = nights[number - 28]
        as_of = str((start + pd.Timedelta(days=number)).date())
        night = judge_night("taxi", as_of, tmp_path / str(number), rows=drifted, controls=against)
        nights.append(night)
        for reason in night.reasons:
            if reason.held:
                first_held.setdefault(reason.control, (number, reason.check, reason.subject))
    assert {control: found[1:] for control, found in first_held.items()} == {
        "production": ("drift", "payment_type"),
        "same_weekday": ("drift", "payment_type"),
    }
    assert max(night.reason("drift", "payment_type", "last_accepted").figure for night in nights[28:]) < 0.02


def test_complaints_of_2013_are_far_from_those_of_2016(controls, tmp_path):
    controls("complaints")
    overrides = {"data_gate.min_rows": 100, "data_gate.min_rows_for_distance": 50}
    before = judge_night("complaints", "2013-09-10", tmp_path / "2013", overrides=overrides)
    judged = judge_night(
        "complaints", COMPLAINTS_NIGHT, tmp_path, controls={"last_accepted": before}, overrides=overrides
    )
    assert {("drift", "product"), ("drift", "submitted_via"), ("max_rows_factor", "")} <= judged.held
    product = judged.reason("drift", "product")
    assert product.values[0].value == "Mortgage" and product.values[0].share < product.values[0].control


def test_a_finding_names_values_rows_and_what_to_do(controls, tmp_path):
    fault, expected = TAXI_FAULTS["a company renamed"]
    judged, reason = caught("taxi", TAXI_NIGHT, tmp_path, fault, expected, controls("taxi"))
    assert [value.value for value in reason.values] == ["Dispatch Affiliation Inc."]
    assert reason.values[0].rows > 100 and reason.rows
    shard, row = reason.rows[0].split(":")
    table = pq.read_table(judged.evidence.rows.folder / shard)
    assert table.column("company")[int(row)].as_py() == "Dispatch Affiliation Inc."
    _, reason = caught("taxi", TAXI_NIGHT, tmp_path / "2", *TAXI_FAULTS["the time zone shifted"], controls("taxi"))
    assert reason.values[0].control is not None and " to " in reason.values[0].value and reason.rows
