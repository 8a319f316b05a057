"""The metrics computed batch by batch are TFMA's own, overall and in every slice, for each kind of label."""

import apache_beam as beam
import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2

from nightly.engines.beam import pipeline, pipeline_options
from nightly.evaluation.errors import EvaluationError
from nightly.evaluation.measured import Plan
from nightly.evaluation.metrics import (
    LABEL,
    WEIGHT,
    as_rows,
    eval_config,
    metric_class,
    write_results,
    write_results_on_beam,
)
from nightly.evaluation.scored import Scored, slices
from nightly.records.metrics import NAMES, OF_CLASSES, of_class
from tests.support.scored import CLASSES, MODELS, drawn, of_trips

METRICS = [
    *("auc", "auc_precision_recall", "binary_crossentropy", "binary_accuracy", "precision", "recall", "f1_score"),
    *("calibration", "mean_label", "mean_prediction", "specificity"),
]
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


def binary(metrics, models=MODELS, slices=("product",)):
    return Plan("binary", list(models), list(metrics), list(slices))


def batches(frame, rows=1000, models=MODELS):
    for begin in range(0, len(frame), rows):
        part = frame.iloc[begin : begin + rows]
        yield Scored(
            labels=part[LABEL].to_numpy(),
            scores={name: part[name].to_numpy() for name in models},
            columns={"product": pa.array(part["product"])},
        )


def parts(whole, rows=400):
    """The same examples as several batches."""
    return [whole.take(np.arange(begin, min(begin + rows, len(whole)))) for begin in range(0, len(whole), rows)]


def figures(result, sub_key=""):
    """(slice, metric) -> value"""
    return {
        # NaN is text, and an average's name begins with its settings.
        (key, name.removeprefix("macro_average: true\n_")): float(value["doubleValue"])
        for key, outputs in result.slicing_metrics
        for name, value in outputs[""].get(sub_key, {}).items()
        if "doubleValue" in value
    }


def names_of(kind):
    return [name.replace("_N", "_70") for name in NAMES[kind]]


def plan_of(kind, scored, metrics=None):
    classes = CLASSES if kind == "classes" else []
    names = metrics or [*names_of(kind), *(of_class(metric, name) for metric in OF_CLASSES[kind] for name in classes)]
    return Plan(kind, MODELS, names, ["shop"], classes, scored.weights is not None)


def by_tfma(scored, specs, folder, model="candidate"):
    """TFMA's own results for a model, by the text of its metrics_specs."""
    weight = f'example_weight_key: "{WEIGHT}"' if scored.weights is not None else ""
    config = text_format.Parse(
        f'model_specs {{ label_key: "{LABEL}" prediction_key: "{model}" {weight} }} {specs} '
        'slicing_specs {} slicing_specs { feature_keys: "shop" }',
        config_pb2.EvalConfig(),
    )
    with pipeline(pipeline_options([])) as begin:
        analyze = tfma.ExtractEvaluateAndWriteResults(eval_config=config, output_path=str(folder))
        _ = begin | beam.Create([as_rows(scored)]) | analyze
    return tfma.load_eval_result(str(folder))


def specs(names, settings="", binarize=""):
    metrics = "".join(f'metrics {{ class_name: "{name}" {settings} }} ' for name in names)
    return f"metrics_specs {{ {metrics} {binarize} }} "


def macro(classes):
    weights = "".join(f"class_weights {{ key: {index} value: 1 }} " for index in range(len(classes)))
    return f"aggregate {{ macro_average: true {weights} }}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_each_metric_that_a_config_may_bound_is_one_number(kind, tmp_path):
    scored = drawn(kind, 400, seed=1)
    plan = plan_of(kind, scored)
    _, values = write_results(parts(scored), plan, tmp_path)
    for model in MODELS:
        assert values[model][()].keys() == {"example_count", *plan.metrics}
        assert np.isfinite(list(values[model][()].values())).all()
        measured = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        assert {name for key, name in measured if key == ()} == {"example_count", *names_of(kind)}


DATA = pytest.mark.parametrize(("source", "weighted"), [(drawn, False), (drawn, True), (of_trips, True)])


def examples(kind, source, weighted):
    return of_trips(kind, 400, weighted=True) if source is of_trips else drawn(kind, 400, 2, weighted=weighted)


@pytest.mark.slow
@DATA
@pytest.mark.parametrize("kind", ["binary", "number"])
def test_every_metric_of_a_number_and_of_a_binary_label_is_tfmas(kind, source, weighted, tmp_path):
    scored = examples(kind, source, weighted)
    plan = plan_of(kind, scored)
    fast = [name for name in plan.formulas if name != "prevalence_threshold" or source is drawn]  # TFMA divides by 0
    tfmas = [name for name in fast if name not in ("root_mean_squared_error", "r_squared", "mean_bias")]
    _, values = write_results(parts(scored), plan_of(kind, scored, fast), tmp_path / "ours")
    theirs = figures(by_tfma(scored, specs(map(metric_class, tfmas)), tmp_path / "theirs"))
    assert {name for _, name in theirs} == set(tfmas)
    for (key, name), value in theirs.items():
        ours = values["candidate"][key][name]
        assert ours == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True) or _one_class(name, value), (key, name)

    if kind == "number":
        y, p, w = scored.labels, scored.scores["candidate"].astype(float), scored.all_weights
        mean = np.average(y, weights=w)
        overall = values["candidate"][()]
        assert overall["root_mean_squared_error"] == pytest.approx(np.sqrt(np.average((p - y) ** 2, weights=w)))
        assert overall["mean_bias"] == pytest.approx(np.average(p - y, weights=w))
        assert overall["r_squared"] == pytest.approx(
            1 - np.average((p - y) ** 2, weights=w) / np.average((y - mean) ** 2, weights=w)
        )


def _one_class(name, value):
    """TFMA reports an area that is not defined as 0."""
    return name in ("auc", "auc_precision_recall") and value == 0


@pytest.mark.slow
@DATA
def test_every_metric_of_classes_is_tfmas(source, weighted, tmp_path):
    scored = examples("classes", source, weighted)
    _, values = write_results(parts(scored), plan_of("classes", scored), tmp_path / "ours")
    ours = {(key, name): value for key, by_name in values["candidate"].items() for name, value in by_name.items()}

    tops = "".join(specs(["Recall"], f'config: \'"top_k": {k}, "name": "top_{k}"\'') for k in (1, 2, 3))
    areas = specs(["AUC"], binarize=macro(CLASSES))
    theirs = figures(by_tfma(scored, tops + areas, tmp_path / "a"))
    for key, name in theirs:
        mine = {"top_1": "accuracy", "auc": "macro_auc"}.get(name, f"{name}_accuracy" if "top_" in name else name)
        if name != "auc" or key == ():  # TFMA counts an area that is not defined as 0 into the mean
            assert ours[key, mine] == pytest.approx(theirs[key, name], abs=1e-6), (key, name)
    keras_loss = keras.metrics.SparseCategoricalCrossentropy()  # TFMA's does not take a class's index
    keras_loss.update_state(scored.labels, scored.scores["candidate"], sample_weight=scored.weights)
    assert ours[(), "categorical_crossentropy"] == pytest.approx(float(keras_loss.result()), abs=1e-6)

    # The likeliest class alone, as TFMA counts it with all probability there.
    likeliest = {model: np.eye(len(CLASSES), dtype=np.float32)[s.argmax(axis=1)] for model, s in scored.scores.items()}
    certain = Scored(labels=scored.labels, scores=likeliest, columns=scored.columns, weights=scored.weights)
    ids = f"binarize {{ class_ids {{ values: {list(range(len(CLASSES)))} }} }}"
    result = by_tfma(certain, specs(["Precision", "Recall", "F1Score"], binarize=ids), tmp_path / "b")
    by_class = {name: figures(result, f"classId:{index}") for index, name in enumerate(CLASSES)}
    for name, of_one in by_class.items():
        for (key, metric), value in of_one.items():
            if key == ():
                assert ours[(), of_class(metric, name)] == pytest.approx(value, abs=1e-6, nan_ok=True)
    # A macro average is over the classes that the slice has examples of, which TFMA's own average does not leave out.
    for key, rows in slices(scored, ["shop"]):
        present = [CLASSES[index] for index in np.unique(scored.labels[rows])]
        for metric in ("precision", "recall", "f1_score"):
            mean = np.mean([np.nan_to_num(by_class[name][key, metric]) for name in present])
            assert ours[key, f"macro_{metric}"] == pytest.approx(mean, abs=1e-6), (key, metric)
    whole = figures(
        by_tfma(certain, specs(["Precision", "Recall", "F1Score"], binarize=macro(CLASSES)), tmp_path / "c")
    )
    for metric in ("precision", "recall", "f1_score"):
        if np.isfinite(value := whole[(), metric]):
            assert ours[(), f"macro_{metric}"] == pytest.approx(value, abs=1e-6), metric


def test_a_macro_average_is_over_the_classes_that_have_examples(tmp_path):
    labels = np.array([0, 0, 0, 1])
    scores = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.1, 0.8], [0.6, 0.4, 0.0]], np.float32)
    plan = Plan("classes", ["candidate"], ["macro_precision", "macro_recall", "precision:b"], [], ["a", "b", "c"])
    _, values = write_results([Scored(labels, {"candidate": scores}, {})], plan, tmp_path)
    found = values["candidate"][()]
    assert found["macro_precision"] == pytest.approx((2 / 3 + 0) / 2)  # b is never predicted
    assert found["macro_recall"] == pytest.approx((2 / 3 + 0) / 2)
    assert np.isnan(found["precision:b"])


def cross_entropy(labels, scores, folder):
    plan = binary(["binary_crossentropy"], ["candidate"], [])
    scored = Scored(np.array(labels, np.float32), {"candidate": np.array(scores, np.float32)}, {})
    _, values = write_results([scored], plan, folder)
    return values["candidate"][()]["binary_crossentropy"]


@pytest.mark.parametrize(("label", "score"), [(1, 1.0), (0, 0.0)])
def test_a_saturated_answer_that_is_right_costs_nothing(label, score, tmp_path):
    assert cross_entropy([label, 1], [score, 0.5], tmp_path) == pytest.approx(np.log(2) / 2)


@pytest.mark.parametrize(("label", "score"), [(1, 0.0), (0, 1.0)])
def test_a_saturated_answer_that_is_wrong_costs_much_but_not_infinitely_much(label, score, tmp_path):
    worst = -np.log(float(np.finfo(np.float32).tiny))
    assert cross_entropy([label, 1], [score, 0.5], tmp_path) == pytest.approx((worst + np.log(2)) / 2)


def test_what_is_no_probability_has_no_cross_entropy(tmp_path):
    assert np.isnan(cross_entropy([0, 1], [1.5, 0.5], tmp_path))


def test_a_class_that_no_label_has_is_always_wrong(tmp_path):
    labels, plan = np.array([0, 1]), Plan("classes", ["candidate"], ["accuracy", "top_2_accuracy"], [], ["a", "b"])
    scores = np.array([[0.3, 0.2, 0.5], [0.2, 0.5, 0.3]], np.float32)  # the third is production's own
    _, values = write_results([Scored(labels, {"candidate": scores}, {})], plan, tmp_path)
    assert values["candidate"][()]["accuracy"] == 0.5
    assert values["candidate"][()]["top_2_accuracy"] == 1


@pytest.mark.slow
def test_every_metric_of_every_slice_of_each_model_is_tfmas(frame, tmp_path):
    write_results(batches(frame), binary(METRICS), tmp_path)
    for model in MODELS:
        expected = figures(tfma.analyze_raw_data(frame, eval_config(binary(METRICS, [model]))))
        ours = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        assert {name for _, name in ours} == {"example_count", *METRICS}
        assert len({key for key, _ in ours}) == 5
        assert ours == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_the_size_of_the_batches_changes_nothing(kind, tmp_path):
    scored = drawn(kind, 700, seed=4)
    plan = plan_of(kind, scored)
    plan = Plan(kind, MODELS, list(plan.formulas), ["shop"], plan.classes, True)
    one, many = (write_results(parts(scored, rows), plan, tmp_path / str(rows))[1] for rows in (700, 7))
    for model in MODELS:
        for key in one[model]:
            assert one[model][key] == pytest.approx(many[model][key], rel=1e-9, nan_ok=True)


@pytest.mark.slow
def test_any_other_metric_of_tfma_is_computed_by_tfma(frame, tmp_path):
    frame = frame.head(500)
    write_results(batches(frame, 200), binary(["auc", "exact_match", "max_recall"]), tmp_path)
    for model in MODELS:
        found = figures(tfma.load_eval_result(str(tmp_path), model_name=model))
        assert found[(), "exact_match"] == (frame[model] == frame[LABEL]).mean()
        assert found[(), "max_recall"] == 1
        assert found[(("product", "Mortgage"),), "auc"] > 0.5


def at_each_threshold(frame, model):
    """(threshold, recall, precision, specificity) at each score."""
    positive, scores = frame[LABEL] == 1, frame[model]
    for threshold in np.unique(scores):
        above = scores >= threshold
        yield threshold, above[positive].mean(), positive[above].mean(), 1 - above[~positive].mean()


@pytest.mark.slow
def test_a_rate_that_a_metric_fixes_is_in_its_name(frame, tmp_path):
    names = ["recall_at_precision_40", "sensitivity_at_specificity_90", "recall_at_false_positive_rate_10"]
    _, values = write_results(batches(frame), binary(names), tmp_path)
    for model in MODELS:
        points = list(at_each_threshold(frame, model))
        recall_at_precision = max(recall for _, recall, precision, _ in points if precision >= 0.4)
        sensitivity_at_specificity = max(recall for _, recall, _, specificity in points if specificity >= 0.9)
        overall = values[model][()]
        assert overall["recall_at_precision_40"] == pytest.approx(recall_at_precision, abs=0.02)
        assert overall["sensitivity_at_specificity_90"] == pytest.approx(sensitivity_at_specificity, abs=0.02)
        assert overall["recall_at_false_positive_rate_10"] == pytest.approx(sensitivity_at_specificity, abs=0.02)


def test_one_class_alone_has_no_auc_and_the_rest_is_there(frame, tmp_path):
    negative = frame[frame[LABEL] == 0]
    write_results(batches(negative, models=["candidate"]), binary(METRICS, ["candidate"], []), tmp_path)
    found = figures(tfma.load_eval_result(str(tmp_path)))
    assert found[(), "example_count"] == len(negative)
    assert found[(), "mean_label"] == 0


@pytest.mark.parametrize("on_beam", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_with_an_answer_that_is_not_finite_has_no_metrics_and_the_other_has(frame, tmp_path, on_beam):
    answers = {5: np.nan, 1400: np.inf}
    broken = frame.assign(candidate=frame["candidate"].where(~frame.index.isin(answers), pd.Series(answers)))
    plan = binary(["auc", "exact_match"], slices=[])
    if on_beam:
        rows = beam.Create(list(batches(broken)))
        measured, values = write_results_on_beam(rows, plan, tmp_path / "broken", pipeline_options([]))
    else:
        measured, values = write_results(batches(broken), plan, tmp_path / "broken")
    assert {model: bad.examples for model, bad in measured.not_finite.items()} == {"candidate": 2}
    _, whole = write_results(batches(frame), plan, tmp_path / "whole")
    assert values.keys() == {"production"}
    assert values["production"][()] == pytest.approx(whole["production"][()])
    written = figures(tfma.load_eval_result(str(tmp_path / "broken"), model_name="production"))
    assert written[(), "auc"] == pytest.approx(whole["production"][()]["auc"])


def test_a_negative_weight_is_refused(tmp_path):
    scored = Scored(np.ones(2), {"candidate": np.ones(2)}, {}, np.array([1, -2.5]))
    with pytest.raises(
        EvaluationError, match=r"1 examples have a negative weight, such as -2.5: data.weight_column must be"
    ):
        write_results([scored], Plan("number", ["candidate"], ["mean_bias"], [], [], True), tmp_path)


def test_no_examples_and_no_such_metric_are_said(frame, tmp_path):
    with pytest.raises(EvaluationError, match="no labelled examples"):
        write_results(iter([]), binary(METRICS, slices=[]), tmp_path)
    with pytest.raises(EvaluationError, match="did you mean 'auc_precision_recall'"):
        metric_class("auc_precision_recal")
    with pytest.raises(EvaluationError, match="TFMA has no metric 'acuracy'"):
        write_results(batches(frame), binary(["acuracy"]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_on_beam_the_results_of_both_models_are_the_same(kind, tmp_path):
    scored = drawn(kind, 900, seed=5)
    plan = plan_of(kind, scored)
    metrics = [*plan.formulas, *(["exact_match"] if kind == "binary" else [])]
    plan = Plan(kind, MODELS, metrics, ["shop"], plan.classes, True)
    measured, here = write_results(parts(scored), plan, tmp_path / "here")
    on_beam, there = write_results_on_beam(beam.Create(parts(scored)), plan, tmp_path / "there", pipeline_options([]))
    for model in MODELS:
        for key in here[model]:
            assert there[model][key] == pytest.approx(here[model][key], abs=1e-6, nan_ok=True)
        loaded = tfma.load_eval_result(str(tmp_path / "there"), model_name=model)
        assert len(loaded.slicing_metrics) == len(here[model])
    assert sorted(on_beam.sample().labels) == sorted(measured.sample().labels)
    assert (tmp_path / "there/eval_config.json").read_text() == (tmp_path / "here/eval_config.json").read_text()


def test_on_beam_no_example_at_all_is_an_error_too(tmp_path):
    with pytest.raises(EvaluationError, match="no labelled examples"):
        write_results_on_beam(beam.Create([]), binary(METRICS, slices=[]), tmp_path, pipeline_options([]))
