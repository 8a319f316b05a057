"""The metrics computed batch by batch are TFMA's own, overall and in every slice."""

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_model_analysis as tfma

from nightly.engines.beam import pipeline_options
from nightly.evaluation.metrics import (
    LABEL,
    Scored,
    as_rows,
    eval_config,
    metric_class,
    write_results,
    write_results_on_beam,
)
from nightly.records.metrics import NAMES

METRICS = [
    *("auc", "auc_precision_recall", "binary_crossentropy", "binary_accuracy", "precision", "recall", "f1_score"),
    *("calibration", "mean_label", "mean_prediction", "specificity"),
]
MODELS = ["candidate", "production"]
ROWS = 1500


@pytest.fixture(scope="module")
def frame():
    """Labels, scores of two models with values at and beyond the edges of TFMA's buckets, and a column to slice by."""
    random = np.random.default_rng(0)
    labels = (random.random(ROWS) < 0.2).astype(np.float32)
    scores = {
        name: np.clip(random.beta(2, 5, ROWS) + 0.2 * labels, 1e-6, 1 - 1e-6).astype(np.float32) for name in MODELS
    }
    scores["candidate"][:200] = np.linspace(0.0001, 0.9999, 200, dtype=np.float32)
    scores["candidate"][200:300] = 0.5
    product = random.choice(["Mortgage", "Débit card", "(missing)", "rare"], ROWS, p=[0.6, 0.3, 0.095, 0.005])
    return pd.DataFrame({LABEL: labels, **scores, "product": product})


def batches(frame, rows=1000, models=MODELS):
    for begin in range(0, len(frame), rows):
        part = frame.iloc[begin : begin + rows]
        yield Scored(
            labels=part[LABEL].to_numpy(),
            scores={name: part[name].to_numpy() for name in models},
            columns={"product": pa.array(part["product"])},
        )


def figures(result):
    """(slice, metric) -> value"""
    return {
        (key, name): value["doubleValue"]
        for key, outputs in result.slicing_metrics
        for name, value in outputs[""][""].items()
        if "doubleValue" in value
    }


def test_each_metric_that_a_config_may_bound_is_one_number(frame, tmp_path):
    write_results(batches(frame), MODELS, list(NAMES), ["product"], tmp_path)
    for model in MODELS:
        measured = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        assert {name for key, name in measured if key == ()} == {"example_count", *NAMES}


def test_every_metric_of_every_slice_of_each_model_is_tfmas(frame, tmp_path):
    write_results(batches(frame), MODELS, METRICS, ["product"], tmp_path)
    for model in MODELS:
        expected = figures(tfma.analyze_raw_data(frame, eval_config([model], METRICS, ["product"])))
        ours = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        assert {name for _, name in ours} == {"example_count", *METRICS}
        assert len({key for key, _ in ours}) == 5
        assert ours == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_the_size_of_the_batches_changes_nothing(frame, tmp_path):
    for rows in (ROWS, 7):
        write_results(batches(frame, rows), MODELS, METRICS, ["product"], tmp_path / str(rows))
    one, many = (
        figures(tfma.load_eval_result(str(tmp_path / str(rows)), model_name="candidate")) for rows in (ROWS, 7)
    )
    assert one == pytest.approx(many, abs=1e-9, nan_ok=True)


def test_any_other_metric_of_tfma_is_computed_by_tfma(frame, tmp_path):
    frame = frame.head(500)
    write_results(batches(frame, 200), MODELS, ["auc", "mean_squared_error"], ["product"], tmp_path)
    for model in MODELS:
        found = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        expected = ((frame[model] - frame[LABEL]) ** 2).mean()
        assert found[(), "mean_squared_error"] == pytest.approx(expected, abs=1e-6)
        assert found[(("product", "Mortgage"),), "auc"] > 0.5


def test_one_class_alone_has_no_auc_and_the_rest_is_there(frame, tmp_path):
    negative = frame[frame[LABEL] == 0]
    write_results(batches(negative, models=["candidate"]), ["candidate"], METRICS, [], tmp_path)
    found = figures(tfma.load_eval_result(str(tmp_path)))
    assert found[(), "example_count"] == len(negative)
    assert found[(), "mean_label"] == 0


def test_a_model_that_answers_nan_is_refused(frame, tmp_path):
    broken = frame.assign(candidate=frame["candidate"].where(frame.index != 5))
    with pytest.raises(ValueError, match="the candidate model answers 1 examples with NaN"):
        write_results(batches(broken), MODELS, METRICS, [], tmp_path)


def test_no_examples_and_no_such_metric_are_said(frame, tmp_path):
    with pytest.raises(ValueError, match="no labelled examples"):
        write_results(iter([]), MODELS, METRICS, [], tmp_path)
    with pytest.raises(ValueError, match="did you mean 'auc_precision_recall'"):
        metric_class("auc_precision_recal")


def test_on_beam_the_results_of_both_models_are_the_same(frame, tmp_path):
    write_results(batches(frame), MODELS, METRICS, ["product"], tmp_path / "here")
    rows = beam.Create([as_rows(batch) for batch in batches(frame)])
    write_results_on_beam(rows, MODELS, METRICS, ["product"], tmp_path / "there", pipeline_options([]))
    for model in MODELS:
        here, there = (tfma.load_eval_result(str(tmp_path / place), model_name=model) for place in ("here", "there"))
        assert figures(there) == pytest.approx(figures(here), abs=1e-6, nan_ok=True)
    assert (tmp_path / "there/eval_config.json").read_text() == (tmp_path / "here/eval_config.json").read_text()


def test_on_beam_no_example_at_all_is_an_error_too(tmp_path):
    with pytest.raises(ValueError, match="no labelled examples"):
        write_results_on_beam(beam.Create([]), MODELS, METRICS, [], tmp_path, pipeline_options([]))
