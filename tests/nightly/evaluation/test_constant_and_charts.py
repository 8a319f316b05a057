"""A model against the best constant answer, and what the page draws of it."""

from dataclasses import replace

import numpy as np
import pytest

from nightly.evaluation.charts import REST, charts
from nightly.evaluation.constant import better_than_constant, loss_name
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import values_of
from nightly.evaluation.scored import Scored
from nightly.records.evaluation import Charts
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LabelSpec
from tests.support.scored import CLASSES, drawn

LABELS = {
    "binary": BinaryLabel(column="y", positive=["1"]),
    "classes": ClassesLabel(column="y"),
    "number": NumberLabel(column="y", transform="log1p"),
}


def spec_of(kind, scored):
    """The spec of a model that was trained on the same labels."""
    if kind == "classes":
        constant = (np.bincount(scored.labels, minlength=len(CLASSES)) / len(scored)).tolist()
    else:
        constant = [float((np.log1p(scored.labels) if kind == "number" else scored.labels).mean())]
    return LabelSpec.of(LABELS[kind], CLASSES if kind == "classes" else ()).model_copy(update={"constant": constant})


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_a_model_that_learned_beats_the_constant_and_the_constant_does_not(kind):
    scored = drawn(kind, 500, seed=1, weighted=False)
    spec = spec_of(kind, scored)
    gain = better_than_constant(scored, "candidate", spec, 500)
    assert gain.value > 3 * gain.error > 0
    constant = np.array(spec.constant, np.float64)
    answers = np.broadcast_to(constant, (500, len(CLASSES))) if kind == "classes" else np.full(500, constant[0])
    answers = np.expm1(answers) if kind == "number" else answers
    same = Scored(scored.labels, {"candidate": answers}, {})
    assert better_than_constant(same, "candidate", spec, 500).value == pytest.approx(0, abs=1e-12)


def test_a_brier_score_of_two_classes_is_that_of_a_binary_label():
    scored = drawn("binary", 300, seed=2)
    p = scored.scores["candidate"]
    two = Scored(scored.labels.astype(int), {"candidate": np.stack([1 - p, p], axis=1)}, {}, scored.weights)
    binary = LabelSpec.of(LABELS["binary"]).model_copy(update={"constant": [0.3]})
    classes = LabelSpec.of(LABELS["classes"], ["0", "1"]).model_copy(update={"constant": [0.7, 0.3]})
    first, second = (better_than_constant(s, "candidate", spec, 300) for s, spec in ((scored, binary), (two, classes)))
    assert first.value == pytest.approx(second.value, abs=1e-6)
    assert first.error == pytest.approx(second.error, rel=1e-4)


def test_the_loss_of_a_number_is_on_the_scale_that_it_was_trained_on():
    labels = np.array([0.0, 1.0, 9.0])
    scored = Scored(labels, {"candidate": labels}, {})
    spec = LabelSpec.of(LABELS["number"]).model_copy(update={"constant": [0.5]})
    gain = better_than_constant(scored, "candidate", spec, 3)
    assert gain.value == pytest.approx(((0.5 - np.log1p(labels)) ** 2).mean())
    assert loss_name(spec) == "mean squared error of log(1 + label)"


def test_a_model_that_names_no_constant_is_not_judged():
    assert better_than_constant(drawn("binary", 10, seed=3), "candidate", LabelSpec.of(LABELS["binary"]), 10) is None


def test_calibration_has_a_tenth_of_the_examples_in_each_bin():
    scored = drawn("binary", 1005, seed=4)
    scored = replace(scored, weights=None)
    drawn_charts = charts(scored, "candidate", "binary", [])
    assert sum(part.rows for part in drawn_charts.calibration) == 1005
    assert {part.rows for part in drawn_charts.calibration} == {100, 101}
    assert [part.predicted for part in drawn_charts.calibration] == sorted(
        part.predicted for part in drawn_charts.calibration
    )
    assert drawn_charts.calibration[-1].actual > drawn_charts.calibration[0].actual
    assert drawn_charts.residuals is None and not drawn_charts.weighted


def test_the_confusion_matrix_has_the_frequent_classes_and_the_rest():
    names = [f"c{number}" for number in range(20)]
    labels = np.repeat(np.arange(20), np.arange(20, 0, -1))
    scores = np.eye(21, dtype=np.float32)[np.where(labels == 0, 20, labels)]  # c0 is taken for a class of production's
    drawn_charts = charts(Scored(labels, {"candidate": scores}, {}), "candidate", "classes", names)
    assert drawn_charts.classes == [*names[:11], REST]
    matrix = np.array(drawn_charts.confusion)
    assert matrix.sum() == len(labels)
    assert matrix[0, 11] == 20 and matrix[1, 1] == 19 and matrix[11, 11] == sum(range(1, 10))
    few = charts(drawn("classes", 200, seed=5, weighted=False), "candidate", "classes", CLASSES)
    assert sorted(few.classes) == sorted(CLASSES) and np.sum(few.confusion) == 200


def test_the_histogram_of_residuals_counts_every_example():
    scored = drawn("number", 1000, seed=6, weighted=False)
    drawn_charts = charts(scored, "production", "number", [])
    assert sum(drawn_charts.residuals.rows) == 1000
    assert len(drawn_charts.residuals.edges) == len(drawn_charts.residuals.rows) + 1
    exact = Scored(scored.labels, {"production": scored.labels}, {})
    assert sum(charts(exact, "production", "number", []).residuals.rows) == 1000


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_a_weight_counts_an_example_as_often_in_every_chart(kind):
    scored, classes = drawn(kind, 1000, seed=7), CLASSES if kind == "classes" else []
    weights = np.random.default_rng(7).integers(0, 4, len(scored))
    repeated = replace(scored.take(np.repeat(np.arange(len(scored)), weights)), weights=None)
    drawn_charts = charts(replace(scored, weights=weights), "candidate", kind, classes)
    expected = charts(repeated, "candidate", kind, classes)
    assert (drawn_charts.weighted, expected.weighted) == (True, False)
    assert (drawn_charts.classes, drawn_charts.confusion, drawn_charts.residuals) == (
        expected.classes,
        expected.confusion,
        expected.residuals,
    )
    assert sum(part.rows for part in drawn_charts.calibration) == (0 if kind == "classes" else (weights > 0).sum())
    for part, other in zip(drawn_charts.calibration, expected.calibration, strict=True):
        assert part.predicted == pytest.approx(other.predicted, rel=0.02), "all of an example is in one tenth"


@pytest.mark.parametrize("weighted", [False, True])
def test_the_confusion_matrix_of_a_binary_label_has_the_counts_of_its_metrics(weighted):
    scored = drawn("binary", 800, seed=8, weighted=weighted)
    at = replace(scored, scores={"candidate": np.round(scored.scores["candidate"], 1)})  # some are 0.5 exactly
    drawn_charts = charts(at, "candidate", "binary", [])
    assert (drawn_charts.classes, drawn_charts.threshold) == (["negative", "positive"], 0.5)
    measured = Measured(Plan("binary", ["candidate"], ["tn", "fp", "fn", "tp"], weighted=weighted)).add(at)
    counts = values_of(measured)["candidate"][()]
    assert np.ravel(drawn_charts.confusion) == pytest.approx([counts[name] for name in ("tn", "fp", "fn", "tp")])


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_without_any_weight_there_is_nothing_to_draw(kind):
    scored = replace(drawn(kind, 20, seed=9), weights=np.zeros(20))
    assert charts(scored, "candidate", kind, CLASSES) == Charts(weighted=True)
