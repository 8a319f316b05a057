"""The standard error of a difference on the same examples: what an example adds, coverage, and the sample."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import stdtrit

from nightly.evaluation import measured as measuring
from nightly.evaluation.differences import difference_of, mean_difference, paired_differences
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.scored import Scored
from nightly.evaluation.sums import TERMS
from nightly.records.metrics import NAMES, OF_CLASSES, of_class
from tests.support.scored import CLASSES, MODELS, drawn

COUNTS = {"fn", "fp", "tn", "tp", "false_negatives", "false_positives", "true_negatives", "true_positives"}
OF_LABELS = {"prevalence", "mean_label", "weighted_example_count"}  # equal for both models


def plan_of(kind, slices=(), weighted=True):
    classes = CLASSES if kind == "classes" else []
    names = [*NAMES[kind], *(of_class(metric, name) for metric in OF_CLASSES[kind] for name in classes)]
    return Plan(kind, MODELS, names, list(slices), classes, weighted)


def differences(plan, scored):
    measured = Measured(plan).add(scored)
    return measured, paired_differences(measured, measured.sample(), *MODELS)


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_the_influence_of_an_example_is_the_change_of_the_metric_by_its_weight(kind):
    scored, plan, step = drawn(kind, 400, seed=1), plan_of(kind), 1e-4
    before = Measured(plan).add(scored).slices[()].vectors["candidate"]
    for row in (3, 17):
        heavier = scored.weights.copy()
        heavier[row] *= 1 + step
        moved = Measured(plan).add(Scored(scored.labels, scored.scores, scored.columns, heavier))
        for name, formula in plan.formulas.items():
            after = moved.slices[()].vectors["candidate"][formula.sums]
            change = (formula.value(after) - formula.value(before[formula.sums])) / step
            terms = TERMS[kind][formula.sums](scored.labels, scored.scores["candidate"], len(plan.classes))
            influence = terms.influence(formula.gradient(before[formula.sums]), scored.weights)[row]
            assert influence == pytest.approx(change, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_every_metric_of_the_fast_path_has_a_standard_error_in_every_slice(kind):
    plan = plan_of(kind, ["shop"])
    measured, actual = differences(plan, drawn(kind, 600, seed=2))
    assert actual.keys() == measured.slices.keys()
    assert actual[()].keys() == plan.formulas.keys()
    for key, sums in measured.slices.items():
        assert {difference.examples for difference in actual[key].values()} == {sums.examples}
        assert not any(":" in name for name in actual[key]) or key == ()


def test_for_an_auc_it_is_delongs_method():
    scored = drawn("binary", 800, seed=3, weighted=False)
    _, actual = differences(Plan("binary", MODELS, ["auc"]), scored)
    positive = scored.labels == 1
    placements = [], []
    for model in MODELS:
        high, low = scored.scores[model][positive], scored.scores[model][~positive]
        wins = (high[:, np.newaxis] > low).astype(float) + (high[:, np.newaxis] == low) / 2
        placements[0].append(wins.mean(axis=1))
        placements[1].append(wins.mean(axis=0))
    spreads = [np.var(side[0] - side[1], ddof=1) / len(side[0]) for side in placements]
    assert actual[()]["auc"].error == pytest.approx(np.sqrt(sum(spreads)), rel=0.01)
    assert actual[()]["auc"].value == pytest.approx(placements[0][0].mean() - placements[0][1].mean(), abs=1e-3)


def test_for_a_mean_it_is_the_paired_standard_error():
    scored = drawn("number", 500, seed=4, weighted=False)
    _, actual = differences(Plan("number", MODELS, ["mean_absolute_error"]), scored)
    gaps = np.abs(scored.scores["candidate"] - scored.labels) - np.abs(scored.scores["production"] - scored.labels)
    assert actual[()]["mean_absolute_error"].value == pytest.approx(gaps.mean())
    assert actual[()]["mean_absolute_error"].error == pytest.approx(gaps.std(ddof=1) / np.sqrt(500))


def test_a_model_does_not_differ_from_itself():
    scored = drawn("classes", 300, seed=5)
    same = Scored(scored.labels, dict.fromkeys(MODELS, scored.scores["candidate"]), {}, scored.weights)
    _, actual = differences(plan_of("classes"), same)
    assert {(difference.value, difference.error) for difference in actual[()].values()} == {(0.0, 0.0)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_the_interval_covers_the_truth_as_often_as_it_promises(kind):
    """95 % intervals on 400 examples. Over 200 trials a share of 95 % comes out as 0.91 at the least."""
    plan, trials = plan_of(kind), 200
    plan = Plan(kind, MODELS, list(plan.formulas), [], plan.classes, True)
    truth = differences(plan, drawn(kind, 300_000, seed=6))[1][()]
    covered = dict.fromkeys(plan.metrics, 0)
    for trial in range(trials):
        for name, difference in differences(plan, drawn(kind, 400, seed=100 + trial))[1][()].items():
            reach = stdtrit(difference.freedom, 0.975) * difference.error
            covered[name] += abs(difference.value - truth[name].value) <= reach
    for name in plan.metrics:
        if name not in COUNTS | OF_LABELS:
            assert covered[name] >= 0.9 * trials, name
    assert np.mean([covered[name] for name in plan.metrics if name not in COUNTS | OF_LABELS]) >= 0.93 * trials


def test_few_examples_that_matter_make_the_error_less_sure():
    spread, rare = np.random.default_rng(7).normal(size=1000), np.zeros(1000)
    rare[:6] = [1, -1, 1, -1, 1, -1]
    assert difference_of(0.0, spread, 1000).freedom > 500
    assert difference_of(0.0, rare, 1000).freedom == pytest.approx(12, rel=0.05)


def test_a_sample_is_even_bounded_and_stands_for_all(monkeypatch):
    scored = drawn("binary", 6000, seed=8)
    plan = Plan("binary", MODELS, ["auc", "precision"], ["shop"], [], True)
    whole = differences(plan, scored)[1]
    monkeypatch.setattr(measuring, "SAMPLE_ROWS", 1500)
    measured = Measured(plan)
    for begin in range(0, 6000, 500):
        measured.add(scored.take(np.arange(begin, begin + 500)))
    sample = measured.sample()
    assert len(sample) == 1500 and measured.examples == 6000
    kept = np.isin(scored.scores["candidate"], sample.scores["candidate"])
    assert min(kept[begin : begin + 1000].sum() for begin in range(0, 6000, 1000)) > 180  # 250 are expected
    actual = paired_differences(measured, sample, *MODELS)
    for metric in plan.metrics:
        assert actual[()][metric].value == whole[()][metric].value
        assert actual[()][metric].error == pytest.approx(whole[()][metric].error, rel=0.1)


def test_a_weighted_mean_has_its_standard_error():
    random = np.random.default_rng(9)
    losses, weights = random.normal(size=(2000, 300)) + 1, random.gamma(2, 0.5, (2000, 300))
    actual = [mean_difference(*row, 300) for row in zip(losses, weights, strict=True)]
    assert np.std([one.value for one in actual]) == pytest.approx(np.mean([one.error for one in actual]), rel=0.05)


def test_what_is_not_defined_has_no_difference():
    negative = Scored(
        np.zeros(50, np.float32),
        {model: np.linspace(0.1, 0.4, 50, dtype=np.float32) for model in MODELS},
        {"shop": pa.array(["one"] * 50)},
    )
    _, actual = differences(Plan("binary", MODELS, ["auc", "recall", "binary_crossentropy"], ["shop"]), negative)
    assert actual[()].keys() == {"binary_crossentropy"}
