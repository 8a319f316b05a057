"""Each outcome of the two gates, from real statistics and figures; every reason has its figure and threshold."""

import datetime as dt
from types import SimpleNamespace

import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from include.contracts.config import ModelConfig
from include.contracts.evaluation import Evaluation
from include.contracts.night import Night
from include.contracts.snapshot import RejectedCount, SnapshotManifest
from include.pipeline.components import data_gate
from include.pipeline.components.model_gate import judge

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
    return Night(
        model="mine",
        run_id="r",
        trigger="manual",
        requested_by="me",
        as_of=AS_OF,
        window_start=AS_OF - dt.timedelta(days=90),
        release=True,
        train_steps=1,
        code_version="c",
        planned_at=AS_OF,
    )


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
            "duplicate_rows": 0,
            "rejected": [],
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


def rows_and_label(config, found):
    return held([*data_gate._about_rows(config, night(), found), *data_gate._about_label(config, found)])


def test_good_data_is_not_held_and_its_figures_are_said(config):
    reasons = [*data_gate._about_rows(config, night(), manifest()), *data_gate._about_label(config, manifest())]
    assert not held(reasons)
    assert {r.check: r.figure for r in reasons} == {"min_rows": 5000, "max_age_days": 0.04, "min_label_share": 1.0}


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"rows": 10, "label_counts": {"0": 5, "1": 5}}, "min_rows", "10 rows; at least 1,000"),
        ({"last_row": AS_OF - dt.timedelta(days=5)}, "max_age_days", "5.0 days older"),
        ({"columns": {"day": "timestamp"}, "label_counts": {}}, "label", "the label y is gone"),
        ({"label_counts": {"": 5000}}, "min_label_share", "is gone: not one row has it"),
        ({"label_counts": {"": 4000, "1": 500, "0": 500}}, "min_label_share", "recorded in 20.0%"),
        ({"label_counts": {"0": 5000}}, "constant_label", "every recorded y is negative"),
        (
            {"rejected": [RejectedCount(reason="number", column="fare", rows=500, example="12,5")]},
            "max_rejected_share",
            "500 of 5,500 rows could not be read, most for number",
        ),
    ],
)
def test_each_fault_of_the_rows_holds_the_night(config, changes, check, words):
    reasons = rows_and_label(config, manifest(**changes))
    assert words in reasons[check].message
    assert reasons[check].figure is not None
    assert reasons[check].threshold is not None


def test_every_reason_is_given_not_only_the_first(config):
    bad = manifest(rows=10, last_row=AS_OF - dt.timedelta(days=5), label_counts={"0": 10})
    assert set(rows_and_label(config, bad)) == {"min_rows", "max_age_days", "constant_label"}


def statistics(folder, **splits):
    for split, values in splits.items():
        import pandas as pd

        found = tfdv.generate_statistics_from_dataframe(pd.DataFrame({"pay": values}))
        path = folder / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir(parents=True)
        path.write_bytes(found.SerializeToString())
    return SimpleNamespace(uri=str(folder))


def measured(value, threshold=0.1):
    anomalies = anomalies_pb2.Anomalies()
    info = anomalies.drift_skew_info.add()
    info.path.step.append("pay")
    info.drift_measurements.add(type=1, value=value, threshold=threshold)
    return anomalies


def test_a_drift_beyond_its_threshold_holds_and_exactly_at_it_does_not(config, tmp_path):
    from include.contracts.baseline import Baseline

    before = Baseline(model="mine", run_id="b", as_of=AS_OF - dt.timedelta(days=1), snapshot_id="p", accepted_at=AS_OF)
    stats = statistics(tmp_path, train=["a"] * 300, eval=["a"] * 300)
    beyond = held(data_gate._about_distances(config, stats, measured(0.3), before))
    assert beyond["drift"].subject == "pay"
    assert (beyond["drift"].figure, beyond["drift"].threshold) == (0.3, 0.1)
    assert "2016-02-29" in beyond["drift"].message
    assert not held(data_gate._about_distances(config, stats, measured(0.1), before))


def test_too_few_rows_say_nothing_about_a_distance(config, tmp_path):
    stats = statistics(tmp_path, train=["a"] * 300, eval=["a"] * 20)
    reasons = list(data_gate._about_distances(config, stats, measured(0.3), None))
    assert not held(reasons)
    assert any("not judged" in r.message for r in reasons)


def test_a_missing_control_is_said(config, tmp_path):
    stats = statistics(tmp_path, train=["a"] * 300, eval=["a"] * 300)
    reasons = list(data_gate._about_distances(config, stats, anomalies_pb2.Anomalies(), None))
    assert "drift was not measured" in reasons[0].message


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
