"""Skew of serving: taxi requests that the real client has asked a real server for and logged, faults in some."""

import math

import pandas as pd
import pytest
import tensorflow as tf

from nightly.models import load_config
from nightly.prediction_log import read
from nightly.schemas.curated import read_schema
from nightly.statistics import serving as requests
from nightly.training.raw_features import MISSING_INT, serving_features
from nightly_client import Client, PredictionLog, example
from tests.support.judged_nights import days_of, judge_night, source_rows
from tests.support.servers import Server, model_config, release

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCHEMA = read_schema(load_config("taxi").folder)
KINDS = {feature.name: feature.type for feature in SCHEMA.feature if feature.name in serving_features(SCHEMA)}
DTYPES = {1: tf.string, 2: tf.int64, 3: tf.float32}
CASTS = {1: str, 2: lambda text: int(float(text)), 3: float}
MISSING = {1: "", 2: MISSING_INT, 3: math.nan}
NIGHT = pd.Timestamp("2015-06-01")


class Constant(tf.Module):
    """Takes what a taxi model takes, by raw features and by examples."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(self, examples):
        parsed = tf.io.parse_example(examples, {n: tf.io.VarLenFeature(DTYPES[k]) for n, k in KINDS.items()})
        return {"probability": tf.zeros([parsed["fare"].dense_shape[0], 1])}

    @tf.function
    def raw(self, **features):
        return {"probability": tf.zeros([tf.size(features["fare"]), 1])}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("serving"), Constant()
    raw = model.raw.get_concrete_function(**{n: tf.TensorSpec([None], DTYPES[k], n) for n, k in KINDS.items()})
    signatures = {"serving_default": model.examples.get_concrete_function(), "raw_features": raw}
    tf.saved_model.save(model, str(folder / "export"), signatures=signatures)
    (folder / "taxi").mkdir()
    release(folder / "export", folder / "taxi", 1)
    (folder / "models.config").write_text(f"model_config_list {{ {model_config('taxi', folder / 'taxi')} }}")
    started = Server(f"--model_config_file={folder}/models.config").wait_ready()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def trips():
    """The real trips, moved by whole weeks so that the night is to come, as what is logged now needs it."""
    rows = source_rows("taxi")
    weeks = -((NIGHT - pd.Timestamp.now()) // pd.Timedelta(weeks=1))
    moved = rows.trip_start_timestamp.astype(int) + weeks * 7 * 86_400
    return rows.assign(trip_start_timestamp=moved.astype(str)), NIGHT + pd.Timedelta(weeks=weeks)


@pytest.fixture
def ask(server, trips, tmp_path, monkeypatch):
    """Ask for the trips of the last `days` days, each day's on its day; then judge the night."""

    def judged(change=lambda row: row, *, days=90, address=None, serialized=False, overrides=None, **logged):
        rows, night = trips
        times = days_of(rows)
        asked = rows[(times >= night - pd.Timedelta(days=days)) & (times < night)]
        log = PredictionLog(tmp_path / "predictions", **logged)
        with Client(address or f"grpc://{server.grpc_address}", log=log) as client, log:
            for day, group in asked.groupby(days_of(asked).dt.floor("D")):
                monkeypatch.setattr("time.time_ns", lambda day=day: day.value)
                found = [change(_request(row, serialized)) for row in group.to_dict("records")]
                if serialized:
                    client.predict("taxi", [example(row).SerializeToString() for row in found])
                else:
                    client.predict("taxi", found, signature="raw_features")
        monkeypatch.undo()
        folder = tmp_path / "night"
        return judge_night(
            "taxi", str(night), folder, rows=rows, overrides=overrides, predictions=tmp_path / "predictions"
        )

    return judged


def _request(row: dict[str, str], sparse: bool) -> dict:
    given = {name: CASTS[kind](row[name]) if row[name] else MISSING[kind] for name, kind in KINDS.items()}
    return {name: value for name, value in given.items() if row[name]} if sparse else given


def serving(judged) -> dict:
    return {(reason.check, reason.subject): reason for reason in judged.reasons if reason.control == "serving"}


def held(judged) -> set:
    return {key for key, reason in serving(judged).items() if reason.held}


@pytest.mark.parametrize("how", ["raw features by grpc", "examples by grpc", "raw features by rest"])
def test_requests_that_are_right_pass(ask, server, how):
    about = {
        "raw features by grpc": {},
        "examples by grpc": {"serialized": True, "format": "parquet"},
        "raw features by rest": {"address": server.url, "format": "jsonl"},
    }
    found = serving(ask(**about[how]))
    assert not [reason.message for reason in found.values() if reason.severity != "info"]
    skews = [reason for (check, _), reason in found.items() if check == "skew"]
    assert {reason.subject for reason in skews} == KINDS.keys()
    assert max(reason.figure / reason.threshold for reason in skews) < 0.3 and skews[0].sample > 900


def test_a_feature_in_another_unit_is_held(ask):
    found = ask(lambda row: row | {"fare": row["fare"] * 100})
    assert held(found) == {("skew", "fare")}
    reason = serving(found)["skew", "fare"]
    assert (
        "fare in the requests to production is" in reason.message and "training rows of the same days" in reason.message
    )
    assert reason.figure > 0.8 and "unit" in reason.action


def test_a_feature_spelled_otherwise_is_held_with_the_values(ask):
    found = ask(lambda row: row | {"payment_type": row["payment_type"].lower()})
    assert held(found) == {("skew", "payment_type")}
    assert {"Cash", "cash"} <= {value.value for value in serving(found)["skew", "payment_type"].values}
    assert "cash: " in serving(found)["skew", "payment_type"].message


def test_a_feature_that_serving_forgets_is_held_and_so_is_one_under_another_name(ask):
    def forget(row):
        row = {name: value for name, value in row.items() if name != "company"}
        return {("trip_mile" if name == "trip_miles" else name): value for name, value in row.items()}

    found = ask(forget, serialized=True)
    assert held(found) == {("max_missing_change", "company"), ("max_missing_change", "trip_miles")}
    reason = serving(found)["max_missing_change", "trip_miles"]
    assert "is missing in 100.0% of the requests to production" in reason.message
    assert "no request has it; did you mean 'trip_mile'?" in reason.message and "not_in_environment" in reason.action


def test_what_the_log_hides_is_not_compared_and_said(ask):
    found = serving(ask(remove=["fare"], hash=["company"], key="0123456789abcdef"))
    messages = {subject: reason.message for (_, subject), reason in found.items() if reason.figure is None}
    start = "skew against the requests to production was not measured: "
    assert messages == {
        "fare": f"{start}removed from the log in 100% of the requests",
        "company": f"{start}logged as a hash in 100% of the requests",
    }
    assert not {"fare", "company"} & {subject for (_, subject), reason in found.items() if reason.figure is not None}


def test_few_requests_are_said_and_not_judged(ask):
    found = ask(lambda row: row | {"fare": row["fare"] * 100}, days=5)
    reason = serving(found)["skew", "fare"]
    assert (reason.held, reason.severity) == (False, "warning") and "not judged: it rests on" in reason.message
    assert not held(found)


def test_a_threshold_of_this_run_holds_for_serving_too(ask):
    assert not held(ask(lambda row: row | {"fare": row["fare"] * 100}, overrides={"skew.fare": 1.0}))


def test_nothing_logged_is_said_and_so_is_a_damaged_log(trips, tmp_path):
    rows, night = trips
    folder = tmp_path / "predictions"
    (reason,) = serving(judge_night("taxi", str(night), tmp_path / "a", rows=rows, predictions=folder)).values()
    assert "was not measured: no requests to taxi from " in reason.message and str(folder) in reason.message
    folder.mkdir()
    (folder / "predictions-x.jsonl").write_text("{")
    (reason,) = serving(judge_night("taxi", str(night), tmp_path / "b", rows=rows, predictions=folder)).values()
    assert "predictions-x.jsonl is damaged" in reason.message and not reason.held
    off = {"data_gate.serving_days": 0}
    (reason,) = serving(judge_night("taxi", str(night), tmp_path / "c", rows=rows, overrides=off)).values()
    assert "serving_days is 0" in reason.message


def test_of_a_long_log_the_same_requests_are_chosen_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "MAX_REQUESTS", 1000)
    with PredictionLog(tmp_path) as log:
        for _ in range(30):
            log.write([{"x": 1.0}] * 500, [0.5] * 500, model="taxi", version=1)
    tables = list(read(tmp_path))
    chosen = []
    for order in (tables, tables[::-1]):
        asked = requests.Sample()
        for table in order:
            asked.add(table)
        chosen.append({name for _, kept in asked.tables for name in kept["serving/id"].to_pylist()})
        assert asked.logged == 15_000 and 400 < len(chosen[-1]) <= 1000
    assert chosen[0] == chosen[1]
