"""Each outcome of the two gates, from real statistics and figures; every reason has its figure and threshold."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from nightly.checks import distances, label, rows
from nightly.checks.evidence import Compared, Evidence, Measured, SnapshotRows
from nightly.records.baseline import Baseline, Control
from nightly.records.config import ModelConfig
from nightly.records.evaluation import Evaluation
from nightly.records.snapshot import Delivery, RejectedCount, SnapshotManifest, TruncatedBody
from nightly.tfx.components.model_gate import judge
from tests.support.nights import a_night

AS_OF = dt.datetime(2016, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def config():
    return ModelConfig.parse(
        {
            "name": "mine",
            "description": "a model",
            "source": {"kind": "files", "path": "x"},
            "data": {"id_columns": [], "time_column": "day", "label": {"column": "y", "positive": ["1"]}},
            "model_gate": {
                "metrics": {"auc": {"floor": 0.6, "max_drop": 0.02}, "binary_crossentropy": {"max_rise": 0.05}},
                "slices": ["state"],
                "slice_metrics": {"auc": {"floor": 0.5}},
                "min_slice_rows": 50,
            },
        },
        where="test",
    )


def night():
    return a_night(model="mine", as_of=AS_OF, window_start=AS_OF - dt.timedelta(days=90))


def manifest(**changes):
    return SnapshotManifest(
        **{
            "snapshot_id": "s",
            "model": "mine",
            "rows": 5000,
            "window_start": AS_OF - dt.timedelta(days=90),
            "window_end": AS_OF,
            "first_row": AS_OF - dt.timedelta(days=90),
            "last_row": AS_OF - dt.timedelta(hours=1),
            "columns": {"y": "int64", "day": "timestamp"},
            "schema_fingerprint": "f",
            "label_counts": {"0": 4000, "1": 1000},
            "files": [],
            "source": [],
            "source_sha256": [],
            "code_version": "c",
            "created_at": AS_OF,
            **changes,
        }
    )


def held(reasons):
    return {reason.check: reason for reason in reasons if reason.held}


def evidence(config, found=None, delivery=None, *, train=("a",) * 300, held_out=("a",) * 300, compared=()):
    return Evidence(
        config=config,
        night=night(),
        manifest=found or manifest(),
        delivery=delivery or Delivery(rows=5000),
        schema=schema_pb2.Schema(),
        rows=SnapshotRows(Path("no snapshot")),
        train=statistics(train),
        eval=statistics(held_out),
        anomalies={},
        skew=anomalies_pb2.Anomalies(),
        compared=list(compared),
    )


def about_rows_and_label(config, found, delivery=None):
    checks = (rows.volume, rows.freshness, rows.delivery, label.recorded)
    return [reason for check in checks for reason in check(evidence(config, found, delivery))]


def rows_and_label(config, found):
    return held(about_rows_and_label(config, found))


def test_good_data_is_not_held_and_its_figures_are_said(config):
    reasons = about_rows_and_label(config, manifest())
    assert not held(reasons)
    assert {r.check: r.figure for r in reasons} == {
        "min_rows": 5000,
        "max_age_days": 0.04,
        "truncated": 0,
        "max_duplicate_share": 0.0,
        "min_label_share": 1.0,
    }


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"rows": 10, "label_counts": {"0": 5, "1": 5}}, "min_rows", "10 rows; at least 1,000"),
        ({"last_row": AS_OF - dt.timedelta(days=5)}, "max_age_days", "5.0 days older"),
        ({"columns": {"day": "timestamp"}, "label_counts": {}}, "label", "the label y is gone"),
        ({"label_counts": {"": 5000}}, "min_label_share", "is gone: not one row has it"),
        ({"label_counts": {"": 4000, "1": 500, "0": 500}}, "min_label_share", "recorded in 20.0%"),
        ({"label_counts": {"0": 5000}}, "constant_label", "every recorded y is negative"),
    ],
)
def test_each_fault_of_the_rows_holds_the_night(config, changes, check, words):
    reasons = rows_and_label(config, manifest(**changes))
    assert words in reasons[check].message
    assert reasons[check].figure is not None
    assert reasons[check].threshold is not None


@pytest.mark.parametrize(
    ("delivery", "check", "words"),
    [
        (
            {"rejected": [RejectedCount(reason="number", column="fare", rows=500, example="12,5")]},
            "max_rejected_share",
            "500 of 5,500 rows could not be read, most for 'number' in fare (for example '12,5')",
        ),
        (
            {"rejected": [RejectedCount(reason="columns", column="", rows=500, example="3 fields instead of 20")]},
            "max_rejected_share",
            "most for 'columns' (for example '3 fields instead of 20')",
        ),
        ({"duplicate_rows": 500}, "max_duplicate_share", "500 of 5,000 rows were there already"),
        (
            {"truncated": [TruncatedBody(file="a.csv", reason="its last row has 3 fields instead of 20")]},
            "truncated",
            "a.csv is truncated: its last row has 3 fields instead of 20; what came after it is missing",
        ),
    ],
)
def test_each_fault_of_the_delivery_holds_the_night(config, delivery, check, words):
    (reason,) = held(about_rows_and_label(config, manifest(), Delivery(rows=5000, **delivery))).values()
    assert reason.check == check
    assert words in reason.message


def test_a_delivery_that_was_not_recorded_is_said(config):
    old = dataclasses.replace(evidence(config), delivery=None)
    reasons = list(rows.delivery(old))
    assert {(r.check, r.severity) for r in reasons} == {
        (name, "warning") for name in ("truncated", "max_rejected_share", "max_duplicate_share")
    }


def test_a_missing_last_newline_is_said_and_does_not_hold(config):
    reason = next(rows.delivery(evidence(config, delivery=Delivery(without_newline=["a.csv"]))))
    assert (reason.held, reason.severity) == (False, "info")
    assert "the last line of a.csv has no newline" in reason.message


def test_an_older_manifests_counts_are_read_and_say_nothing(tmp_path):
    path = manifest().save(tmp_path / "manifest.json")
    old = json.loads(path.read_text()) | {"duplicate_rows": 7, "rejected": []}
    path.write_text(json.dumps(old))
    assert SnapshotManifest.load(path) == manifest()


def test_every_reason_is_given_not_only_the_first(config):
    bad = manifest(rows=10, last_row=AS_OF - dt.timedelta(days=5), label_counts={"0": 10})
    assert set(rows_and_label(config, bad)) == {"min_rows", "max_age_days", "constant_label"}


def statistics(values):
    return Measured.of(tfdv.generate_statistics_from_dataframe(pd.DataFrame({"pay": list(values)})))


def control(value=None, threshold=0.1, train=("a",) * 300):
    """The last accepted snapshot, `value` away; none where that is None."""
    if value is None:
        return Compared(Control(name="last_accepted", factor=1, missing="nothing has been accepted yet"))
    measured = anomalies_pb2.Anomalies()
    info = measured.drift_skew_info.add()
    info.path.step.append("pay")
    info.drift_measurements.add(type=1, value=value, threshold=threshold)
    before = Baseline(model="mine", run_id="b", as_of=AS_OF - dt.timedelta(days=1), snapshot_id="p", accepted_at=AS_OF)
    return Compared(Control(name="last_accepted", factor=1, folder="f", baseline=before), statistics(train), measured)


def test_a_drift_beyond_its_threshold_holds_and_exactly_at_it_does_not(config):
    beyond = held(distances.drift(evidence(config, compared=[control(0.3, train=["b"] * 300)])))
    assert beyond["drift"].subject == "pay"
    assert (beyond["drift"].figure, beyond["drift"].threshold) == (0.3, 0.1)
    assert "2016-02-29" in beyond["drift"].message
    assert [(v.value, v.rows, v.share, v.control) for v in beyond["drift"].values] == [
        ("a", 300, 1.0, None),
        ("b", 0, 0.0, 1.0),
    ]
    assert not held(distances.drift(evidence(config, compared=[control(0.1)])))


@pytest.mark.parametrize("few", ["eval", "control"])
def test_too_few_rows_say_nothing_about_a_distance(config, few):
    """Nor does a small control."""
    small = ["a"] * 20
    found = evidence(config, compared=[control(0.3, train=small)])
    if few == "eval":
        found = evidence(config, held_out=small, compared=[control(0.3)])
    reasons = list(distances.drift(found))
    assert not held(reasons)
    assert any("not judged" in r.message for r in reasons)


def test_a_missing_control_is_said(config):
    (reason,) = distances.drift(evidence(config, compared=[control()]))
    assert reason.message == (
        "drift against the last accepted snapshot was not measured: nothing has been accepted yet"
    )
    assert (reason.held, reason.severity) == (False, "warning")


def evaluation(production=None, **changes):
    good = {"auc": 0.7, "binary_crossentropy": 0.4}
    return Evaluation(
        **{
            "examples": {"": 1000, "state=IL": 600, "state=AK": 10},
            "candidate": {"": good, "state=IL": good, "state=AK": {"auc": 0.1, "binary_crossentropy": 2.0}},
            "production": production,
            "production_version": 17 if production else None,
            **changes,
        }
    )


def test_a_first_model_above_its_floors_passes_and_the_missing_comparison_is_said(config):
    reasons = list(judge(config, evaluation()))
    assert not held(reasons)
    assert any("no model is in production yet" in r.message for r in reasons)


def test_a_slice_is_judged_only_with_enough_examples(config):
    subjects = {reason.subject for reason in judge(config, evaluation())}
    assert "state=IL" in subjects
    assert "state=AK" not in subjects


def test_a_model_below_its_floor_is_held(config):
    bad = {"auc": 0.55, "binary_crossentropy": 0.4}
    reasons = held(judge(config, evaluation(candidate={"": bad}, examples={"": 1000})))
    assert (reasons["auc"].figure, reasons["auc"].threshold) == (0.55, 0.6)


def test_a_model_worse_than_production_is_held_by_each_metric_that_says_so(config):
    production = {"": {"auc": 0.75, "binary_crossentropy": 0.3}}
    reasons = held(judge(config, evaluation(production)))
    assert set(reasons) == {"auc against production", "binary_crossentropy against production"}
    assert reasons["auc against production"].figure == pytest.approx(-0.05)
    assert reasons["auc against production"].threshold == -0.02


def test_a_slice_below_its_floor_holds_although_the_whole_is_good(config):
    whole, slice_ = {"auc": 0.8, "binary_crossentropy": 0.3}, {"auc": 0.4, "binary_crossentropy": 0.9}
    found = evaluation(candidate={"": whole, "state=IL": slice_}, examples={"": 1000, "state=IL": 600})
    (reason,) = [r for r in judge(config, found) if r.held]
    assert (reason.check, reason.subject) == ("auc", "state=IL")


def test_a_metric_that_cannot_be_computed_holds(config):
    nan = {"auc": float("nan"), "binary_crossentropy": 0.4}
    assert "auc" in held(judge(config, evaluation(candidate={"": nan}, examples={"": 1000})))
