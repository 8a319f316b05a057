"""Distances between data sets: measured by the schema, refused where nothing would be, never silent about a gap."""

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from nightly.data import (
    compare,
    drift,
    explained,
    infer_schema,
    read_schema,
    skew,
    statistics,
    validate,
    with_thresholds,
)
from nightly.data.errors import DataError
from nightly.data.schemas import listed, save_schema
from nightly.models import load_config
from tests.support.data import TAXI
from tests.support.statistics import write


@pytest.fixture(scope="module")
def years(trips, tmp_path_factory):
    """The statistics of 2013 and of 2015, as the model taxi reads them."""
    folder = tmp_path_factory.mktemp("years")
    found = []
    for year in (2013, 2015):
        begin, end = (pd.Timestamp(f"{one}-01-01").timestamp() for one in (year, year + 1))
        some = trips[trips["trip_start_timestamp"].between(begin, end)]
        some.to_csv(folder / f"{year}.csv", index=False)
        found.append(statistics(folder / f"{year}.csv", model="taxi"))
    return found


@pytest.fixture(scope="module")
def schema():
    return read_schema(load_config("taxi").folder)


def test_drift_is_what_tfdv_measures_and_names_the_values_it_comes_from(years, schema):
    before, now = years
    found = drift(now, before, schema)
    tfdvs = tfdv.validate_statistics(now, schema, environment="TRAINING", previous_statistics=before)
    assert list(found.drift_skew_info) == list(tfdvs.drift_skew_info)
    distances = {info.path.step[0]: info.drift_measurements[0] for info in found.drift_skew_info}
    beyond = {name for name, distance in distances.items() if distance.value > distance.threshold}
    assert set(found.anomaly_info) == beyond >= {"payment_type", "big_tipper"}
    by_feature = {distance.feature: distance for distance in explained(found, "drift", now, before, schema)}
    payment = by_feature["payment_type"]
    assert not payment.passed
    assert payment.value == pytest.approx(0.146, abs=0.001)
    assert {value.value for value in payment.contributions[:2]} == {"Cash", "Credit Card"}
    assert by_feature["trip_start_hour"].passed


def test_a_threshold_can_be_given_for_one_feature_or_for_every_one(years, schema):
    before, now = years
    lenient = with_thresholds(schema, "drift", {"payment_type": 0.2})
    assert "payment_type" not in drift(now, before, lenient).anomaly_info
    strict = with_thresholds(schema, "drift", {"payment_type": 0.2}, every=0.0)
    assert "company" in drift(now, before, strict).anomaly_info
    with pytest.raises(DataError, match="no such feature; did you mean 'payment_type'"):
        with_thresholds(schema, "drift", {"payment_typ": 0.2})


def test_a_schema_without_comparators_is_refused_since_nothing_would_be_measured(years):
    before, now = years
    with pytest.raises(DataError, match=r"no drift_comparator.*--all"):
        drift(now, before, infer_schema(now))
    with pytest.raises(DataError, match="no skew_comparator"):
        skew(now, before, infer_schema(now))


def test_what_cannot_be_measured_is_said_and_does_not_pass(schema, tmp_path):
    header, *lines = TAXI.read_text().splitlines()
    column = header.split(",").index("company")
    without = [",".join(v for n, v in enumerate(line.split(",")) if n != column) for line in [header, *lines[:400]]]
    before = statistics(write(tmp_path / "a.csv", "\n".join(without)), model="taxi")
    now = statistics(write(tmp_path / "b.csv", "\n".join([header, *lines[400:500]])), model="taxi")
    by_feature = {d.feature: d for d in explained(drift(now, before, schema), "drift", now, before, schema)}
    assert by_feature["company"].why == "the second has no such feature"
    assert "100 rows say nothing; 200 are needed" in by_feature["fare"].why
    assert not any(distance.passed for distance in by_feature.values())


def test_skew_does_not_ask_serving_for_the_label(trips, schema, tmp_path):
    trips.drop(columns="big_tipper").to_csv(tmp_path / "serving.csv", index=False)
    training, serving = statistics(TAXI, model="taxi"), statistics(tmp_path / "serving.csv", model="taxi")
    distances = explained(skew(training, serving, schema), "skew", training, serving, schema)
    assert {"fare", "company"} <= {distance.feature for distance in distances}
    assert "big_tipper" not in {distance.feature for distance in distances}
    assert all(distance.passed and distance.value == 0 for distance in distances)


def test_compare_needs_no_schema_and_measures_every_feature(years):
    before, now = years
    found = compare(now, before)
    assert not found.anomaly_info
    distances = {info.path.step[0]: info.drift_measurements[0].value for info in found.drift_skew_info}
    assert distances["payment_type"] == pytest.approx(0.146, abs=0.001)
    assert 0 < distances["fare"] < 1


def test_validation_finds_what_was_changed_and_knows_environments(trips, schema, tmp_path):
    broken = trips.assign(payment_type=trips["payment_type"].replace("Cash", "Bar"), fare="x").drop(columns="company")
    broken.to_csv(tmp_path / "a.csv", index=False)
    found = {
        one.feature: one
        for one in listed(validate(statistics(tmp_path / "a.csv", model="taxi", schema=schema), schema))
    }
    assert found["company"].short == "Column dropped"
    assert "Bar" in found["payment_type"].description
    assert "STRING" in found["fare"].description.upper() or "BYTES" in found["fare"].description
    trips.drop(columns="big_tipper").to_csv(tmp_path / "b.csv", index=False)
    serving = statistics(tmp_path / "b.csv", model="taxi")
    assert not validate(serving, schema, environment="SERVING").anomaly_info
    assert list(validate(serving, schema, environment="TRAINING").anomaly_info) == ["big_tipper"]
    with pytest.raises(DataError, match="did you mean 'SERVING'"):
        validate(serving, schema, environment="SERVNG")


def test_a_schema_is_refused_where_a_comparator_does_not_fit_its_feature(tmp_path):
    text = 'feature { name: "fare" type: FLOAT drift_comparator { infinity_norm { threshold: 0.1 } } }'
    with pytest.raises(DataError, match=r"write drift_comparator \{ jensen_shannon_divergence"):
        read_schema(write(tmp_path / "schema.pbtxt", text))
    with pytest.raises(DataError, match="no schema at"):
        read_schema(tmp_path / "gone.pbtxt")
    with pytest.raises(DataError, match="not a schema"):
        read_schema(write(tmp_path / "x.pbtxt", "feature {"))


def test_an_inferred_schema_validates_what_it_was_inferred_from(tmp_path):
    found = statistics(TAXI)
    save_schema(infer_schema(found), tmp_path / "schema.pbtxt")
    assert tfdv.load_schema_text(str(tmp_path / "schema.pbtxt")) == read_schema(tmp_path / "schema.pbtxt")
    assert not validate(found, read_schema(tmp_path / "schema.pbtxt")).anomaly_info
