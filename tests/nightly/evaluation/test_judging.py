"""The model gate knows chance: it holds what is surely worse, and says when it cannot tell."""

import numpy as np
import pytest
from scipy.special import stdtrit

from nightly.evaluation.judging import Interval, judge
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import evaluate, values_of
from nightly.evaluation.scored import Scored
from nightly.nights.causes import causes, headline
from nightly.records.config import ModelConfig
from nightly.records.evaluation import Difference, Evaluation, NotFinite
from nightly.records.label_spec import LabelSpec
from nightly.records.night import CONSTANT


def config(**gate):
    bounds = {"metrics": {"auc": {"max_drop": 0.02}}, "must_beat_constant": False}
    return ModelConfig.parse(
        {
            "name": "mine",
            "description": "a model",
            "source": {"kind": "files", "path": "x"},
            "data": {"id_columns": [], "time_column": "day", "label": {"column": "y", "positive": ["1"]}},
            "model_gate": bounds | gate,
        },
        where="test",
    )


def of_classes(**gate):
    text = config().model_dump()
    text["data"]["label"] = {"kind": "classes", "column": "y"}
    text["model_gate"] = {"metrics": {"accuracy": {"floor": 0.1}}, "must_beat_constant": False, "slices": []} | gate
    return ModelConfig.parse(text, where="test")


def measured(drop, error, metric="auc", examples=900, **changes):
    """Production's metric is 0.8, and the candidate's is `drop` below it."""
    return Evaluation(
        **{
            "examples": {"": examples},
            "candidate": {"": {metric: 0.8 - drop}},
            "production": {"": {metric: 0.8}},
            "production_version": 17,
            "differences": {"": {metric: Difference(value=-drop, error=error, examples=examples)}},
            **changes,
        }
    )


def one(config, evaluation):
    (reason,) = judge(config, evaluation)
    return reason


def test_what_is_surely_worse_than_allowed_is_held():
    reason = one(config(), measured(0.05, 0.01))
    assert (reason.held, reason.severity, reason.figure, reason.threshold) == (True, "error", -0.05, -0.02)
    assert reason.message == (
        "auc is 0.7500, and 0.8000 in production: worse by 0.0500 (with chance, from 0.0335 to 0.0665 worse); "
        "0.02 worse is allowed"
    )
    assert "it stays" in reason.action


def test_what_is_surely_not_worse_than_allowed_passes():
    reason = one(config(), measured(0.001, 0.005))
    assert (reason.held, reason.severity) == (False, "")
    assert "worse by 0.0010 (with chance, from 0.0072 better to 0.0092 worse); 0.02 worse is allowed" in reason.message
    better = one(config(), measured(-0.05, 0.005))
    assert not better.held and "better by 0.0500 (with chance, from 0.0418 to 0.0582 better)" in better.message


@pytest.mark.parametrize("drop", [0.03, 0.01])  # the values alone would be held, and would pass
@pytest.mark.parametrize("undecided", ["release", "hold"])
def test_what_the_examples_cannot_tell_is_said_and_left_to_the_config(drop, undecided):
    reason = one(config(undecided=undecided), measured(drop, 0.02))
    assert reason.held == (undecided == "hold") and reason.undecided
    assert reason.message.endswith("; 0.02 worse is allowed; 900 examples cannot tell")
    assert "Judge more examples" in reason.action
    assert reason.severity == ("error" if reason.held else "warning")


def test_a_rise_is_worse_where_lower_is_better():
    gate = config(metrics={"binary_crossentropy": {"max_rise": 0.05}})
    assert one(gate, measured(-0.2, 0.02, "binary_crossentropy")).held
    assert not one(gate, measured(0.2, 0.02, "binary_crossentropy")).held


@pytest.mark.parametrize("bound", ["floor", "ceiling", "max_drop", "max_rise"])
def test_a_finding_has_the_kind_of_its_bound(bound):
    gate = config(metrics={"auc": {bound: 0.0}})  # 0 itself has no direction
    assert one(gate, measured(0.0, 0.02)).bound == bound.removeprefix("max_")


def test_a_metric_that_cannot_be_computed_has_the_kind_of_its_bound():
    gate = config(metrics={"auc": {"ceiling": 0.5}})
    assert one(gate, measured(float("nan"), 0.02)).bound == "ceiling"


def test_a_metric_without_an_error_is_compared_by_its_values_and_that_is_said():
    reason = one(config(), measured(0.03, 0.0, differences={}))
    assert reason.held
    assert reason.message.endswith("; its standard error is not known, so chance is not considered")


def test_a_few_examples_that_matter_widen_the_interval():
    sure, unsure = (Difference(value=-0.05, error=0.01, examples=900, freedom=freedom) for freedom in (None, 3))
    assert Interval.of(0.05, unsure, 0.05).low < Interval.of(0.05, sure, 0.05).low


def test_alpha_is_shared_by_slices_and_classes():
    def low(**gate):
        slices = {f"shop={n}": {"auc": 0.7} for n in range(10)}
        error = Difference(value=-0.05, error=0.01, examples=900)
        changes = {
            "examples": {"": 900, **dict.fromkeys(slices, 200)},
            "candidate": {"": {"auc": 0.75}, **slices},
            "production": {"": {"auc": 0.8}, **slices},
            "differences": {key: {"auc": error} for key in ("", *slices)},
        }
        evaluation = measured(0.05, 0.01).model_copy(update=changes)
        return next(judge(config(**gate), evaluation)).message

    t = {alpha: 0.05 - 0.01 * float(stdtrit(899, 1 - alpha)) for alpha in (0.05, 0.025, 0.0125)}
    assert f"from {t[0.05]:.4f} to" in low()  # slices that nothing bounds take no share
    by_slice = {"slices": ["shop"], "slice_metrics": {"auc": {"max_drop": 0.01}}}
    assert f"from {t[0.025]:.4f} to" in low(**by_slice)
    fixed = {"slices": ["shop"], "slice_metrics": {"auc": {"floor": 0.01}}}
    assert f"from {t[0.05]:.4f} to" in low(**fixed)


def test_each_class_with_enough_examples_is_judged():
    evaluation = measured(
        0.3,
        0.02,
        "recall:Cash",
        candidate={"": {"accuracy": 0.6, "recall:Cash": 0.5, "recall:Coin": 0.1}},
        production={"": {"accuracy": 0.6, "recall:Cash": 0.8, "recall:Coin": 0.9}},
        class_examples={"Cash": 400, "Coin": 7, "Card": 493},
    )
    reasons = {r.check: r for r in judge(of_classes(class_metrics={"recall": {"max_drop": 0.1}}), evaluation)}
    held = reasons["recall:Cash against production"]
    assert held.held and held.message.startswith(
        "recall of class Cash is 0.5000, and 0.8000 in production: worse by 0.3"
    )
    assert not any("Coin" in check for check in reasons)
    assert not reasons["recall:Card"].held and "of class Card could not be computed" in reasons["recall:Card"].message


def beats(value, error, **gate):
    evaluation = measured(
        0.0,
        0.001,
        better_than_constant=Difference(value=value, error=error, examples=900),
        constant_loss="Brier score",
    )
    return next(r for r in judge(config(must_beat_constant=True, **gate), evaluation) if r.check == CONSTANT)


def test_a_model_that_does_not_surely_beat_the_constant_answer_is_held():
    reason = beats(-0.01, 0.002)
    assert reason.held
    assert reason.message.startswith(
        "the model is worse by 0.0100 in the Brier score than the best constant answer (with"
    )
    assert beats(0.0, 0.0).held, "the constant itself is not better"
    assert not beats(0.05, 0.01).held
    unsure = beats(0.001, 0.01, undecided="release")
    assert unsure.held and unsure.undecided and unsure.chance > 0.001
    assert unsure.message.endswith("; surely better is required; 900 examples cannot tell")


def test_a_model_that_names_no_constant_is_said_to_be_not_judged():
    reason = next(r for r in judge(config(must_beat_constant=True), measured(0.0, 0.001)) if r.check == CONSTANT)
    assert not reason.held and "was not judged: its assets.extra/label.json is missing" in reason.message


def scored(labels, scores, weights=None):
    sample = Scored(np.array(labels), {"candidate": np.array(scores)}, {}, weights and np.array(weights))
    plan = Plan("binary", ["candidate"], ["auc", "mean_label"], weighted=weights is not None)
    measured = Measured(plan).add(sample)
    spec = LabelSpec(kind="binary", column="y", output="probability", positive=["1"], constant=[0.5])
    return evaluate(measured, values_of(measured), spec, None)


@pytest.mark.parametrize(
    "evaluation",
    [scored([1.0], [0.9]), scored([1.0, 0.0], [0.9, 0.1], [0.0, 0.0]), scored([1.0, 0.0], [0.9, 0.1], [1.0, 0.0])],
    ids=["one example", "all weigh 0", "one weighs more than 0"],
)
def test_examples_that_cannot_tell_whether_the_constant_answer_is_beaten_hold_the_model(evaluation):
    (reason,) = judge(config(must_beat_constant=True, metrics={}), evaluation)
    assert reason.held and reason.severity == "error"
    assert reason.message == (
        f"whether the model beats the best constant answer could not be computed on {evaluation.examples['']} "
        "examples: at least two with a weight above 0 are needed"
    )


def test_why_production_was_not_measured_is_said():
    evaluation = measured(0.0, 0.0, production=None, unmeasured="version 17 predicts another label")
    *_, reason = judge(config(), evaluation)
    assert reason.message == "the change against production was not judged: version 17 predicts another label"


def test_a_model_with_an_answer_that_is_not_finite_is_held_for_that_alone():
    bad = NotFinite(examples=3, first="trip = 7")
    gate = config(must_beat_constant=True)
    reason = one(gate, measured(0.0, 0.001, candidate={"": {}}, differences={}, not_finite=bad))
    assert reason.held and reason.figure == 3 and reason.threshold == 0
    assert reason.message == (
        "the model answers 3 of 900 examples with NaN or an infinite number, such as that with trip = 7"
    )
    (cause,) = causes([reason])
    assert cause.kind == "model" and headline([cause]) == reason.message


def test_a_held_model_is_understood_by_its_headline():
    (cause,) = causes([one(config(), measured(0.05, 0.01))])
    assert cause.kind == "model"
    assert headline([cause]).startswith("auc is 0.7500, and 0.8000 in production: worse by 0.0500")
    assert [cause.kind for cause in causes([beats(-0.01, 0.002)])] == ["model"]
