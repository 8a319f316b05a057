"""Each model's curated schema on its real data: ordinary nights pass, real breaks are caught."""

import datetime as dt

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from nightly.models import load_config, model_names
from tests.support.trial_night import as_arrow, read_schema, rows_of, split

pytestmark = pytest.mark.slow

TAXI, COMPLAINTS = load_config("taxi"), load_config("complaints")


def statistics(rows, config):
    batch: pa.RecordBatch = as_arrow(rows, read_schema(config))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


def errors(rows, config, *, before=None, beside=None):
    """feature -> what is wrong with it, of severity ERROR."""
    anomalies = tfdv.validate_statistics(
        statistics(rows, config),
        read_schema(config),
        environment="TRAINING",
        previous_statistics=statistics(before, config) if before else None,
        serving_statistics=statistics(beside, config) if beside else None,
    )
    wrong = anomalies_pb2.AnomalyInfo.ERROR
    return {name: info.description for name, info in anomalies.anomaly_info.items() if info.severity == wrong}


@pytest.mark.parametrize("name", ["taxi", "complaints"])
def test_the_schema_names_the_label_and_no_ignored_column(name):
    config = load_config(name)
    schema = read_schema(config)
    by_name = {feature.name: feature for feature in schema.feature}
    assert name in model_names()
    assert list(by_name[config.data.label.column].not_in_environment) == ["SERVING"]
    assert not set(by_name) & set(config.data.ignore)
    assert list(schema.default_environment) == ["TRAINING", "SERVING"]
    for feature in schema.feature:
        kind = "infinity_norm" if feature.type == schema_pb2.BYTES else "jensen_shannon_divergence"
        assert feature.skew_comparator.HasField(kind), feature.name
        assert feature.drift_comparator.HasField(kind) or feature.name == "trip_start_month"


@pytest.mark.parametrize("as_of", ["2013-06-30", "2014-09-15", "2015-07-01", "2016-01-01", "2016-07-01"])
def test_ordinary_taxi_nights_pass(as_of):
    tomorrow = (dt.date.fromisoformat(as_of) + dt.timedelta(days=1)).isoformat()
    rows = rows_of(TAXI, tomorrow)
    sides = split(rows, TAXI.data.eval_percent)
    assert len(rows) >= TAXI.data_gate.min_rows
    assert errors(sides["train"], TAXI, before=split(rows_of(TAXI, as_of), 20)["train"], beside=sides["eval"]) == {}


@pytest.mark.parametrize("as_of", ["2016-02-20", "2016-02-25", "2016-03-05", "2016-03-14"])
def test_ordinary_complaints_nights_pass(as_of):
    tomorrow = (dt.date.fromisoformat(as_of) + dt.timedelta(days=1)).isoformat()
    sides = split(rows_of(COMPLAINTS, tomorrow), COMPLAINTS.data.eval_percent)
    before = split(rows_of(COMPLAINTS, as_of), COMPLAINTS.data.eval_percent)["train"]
    assert errors(sides["train"], COMPLAINTS, before=before, beside=sides["eval"]) == {}


def test_taxi_trips_of_2015_have_drifted_from_those_of_2013():
    found = errors(rows_of(TAXI, "2016-01-01"), TAXI, before=rows_of(TAXI, "2014-01-01"))
    assert {"payment_type", "company", "big_tipper"} <= set(found)


def test_complaints_of_2016_have_drifted_from_those_of_2013():
    found = errors(rows_of(COMPLAINTS, "2016-03-14"), COMPLAINTS, before=rows_of(COMPLAINTS, "2013-09-10"))
    assert {"product", "submitted_via"} <= set(found)


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("fare", lambda value: str(float(value) * 100)),  # cents
        ("trip_seconds", lambda value: value and str(float(value) // 60)),  # minutes
        ("pickup_latitude", lambda value: "-87.6"),  # swapped with the longitude
        ("payment_type", lambda value: value.upper()),
        ("trip_start_hour", lambda value: str((int(value) + 6) % 24)),  # another time zone
        ("company", lambda value: ""),
    ],
)
def test_a_broken_taxi_column_is_caught(feature, change):
    rows = rows_of(TAXI, "2015-07-01")
    broken = [row | {feature: change(row[feature])} for row in rows]
    assert feature in errors(broken, TAXI, before=rows)


@pytest.mark.parametrize(("config", "feature"), [(TAXI, "trip_miles"), (TAXI, "company"), (COMPLAINTS, "issue")])
def test_a_lost_column_is_caught(config, feature):
    rows = rows_of(config, "2015-07-01" if config is TAXI else "2016-03-14")
    lost = [{name: value for name, value in row.items() if name != feature} for row in rows]
    assert feature in errors(lost, config)
