"""The loss of each kind of label: by hand, within 0 and 1, proper, and fair to versions with other classes."""

import numpy as np
import pandas as pd
import pytest

from nightly.canary.losses import BinaryLoss, ClassesLoss, IncomparableError, Loss, NumberLoss, loss_between
from nightly.records.label_spec import OTHER, LabelSpec

PERCENT = list(np.linspace(0, 100, 101))  # the quantiles of labels that are even between 0 and 100


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def spec(*classes: str) -> LabelSpec:
    return LabelSpec(kind="classes", column="c", output="probabilities", classes=list(classes))


NUMBER = LabelSpec(kind="number", column="n", output="prediction", quantiles=PERCENT)


def loss(judge: Loss, of: LabelSpec, values: list[list[float]], labels: list[str]) -> list[float]:
    answers = judge.answers(np.array(values, float), of)
    return [round(each, 6) for each in judge.losses(answers, judge.labels(pd.Series(labels)).to_numpy())]


def test_each_loss_is_what_its_name_says():
    binary = LabelSpec(kind="binary", column="b", output="probability", positive=["1"])
    assert loss(BinaryLoss(["1"]), binary, [[0.2], [0.2]], ["0", "1"]) == [0.04, 0.64]
    abc = spec("a", "b", "c")
    values = [[0.2, 0.3, 0.5]] * 2 + [[0, 0, 1]] * 2
    assert loss(ClassesLoss(abc.classes, abc.classes), abc, values, list("abca")) == [0.49, 0.39, 0.0, 1.0]
    assert loss(NumberLoss(PERCENT), NUMBER, [[40], [40], [-9], [1e9]], ["50", "12.5", "0", "0"]) == [0.1, 0.275, 0, 1]


def test_of_two_classes_the_loss_is_that_of_a_binary_label(random):
    two = spec("no", "yes")
    p = random.random((100, 1))
    labels = random.random(100) < 0.5
    of_classes = ClassesLoss(two.classes, two.classes).losses(np.hstack([1 - p, p]), labels.astype(float))
    assert of_classes == pytest.approx(BinaryLoss(["yes"]).losses(p, labels.astype(float)))


def test_the_true_probabilities_and_the_median_have_the_lowest_expected_loss(random):
    classes = [*"abc", OTHER]
    judge = ClassesLoss(classes, [*"ab", OTHER])  # c counts as OTHER
    true = np.array([0.5, 0.1, 0.3, 0.1])
    labels = judge.labels(pd.Series(random.choice(classes, 20_000, p=true))).to_numpy()

    def expected(probabilities: np.ndarray) -> float:
        answers = judge.answers(np.tile(probabilities, (len(labels), 1)), spec(*classes))
        return judge.losses(answers, labels).mean()

    assert all(expected(random.dirichlet(true * 20)) > expected(true) for _ in range(30))

    incomes = np.where(random.random(20_000) < 0.2, 0.0, random.lognormal(3, 2, 20_000))  # many zeros and a long tail
    judge = NumberLoss(np.quantile(random.lognormal(2.5, 2, 5_000), np.linspace(0, 1, 101)).tolist())  # of other rows
    by_prediction = {
        prediction: judge.losses(np.full((len(incomes), 1), prediction), incomes).mean()
        for prediction in [*np.quantile(incomes, [0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7]), incomes.mean()]
    }
    assert min(by_prediction, key=by_prediction.get) == np.median(incomes)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e9])
def test_a_loss_is_between_0_and_1_whatever_the_scale(random, scale):
    labels = random.lognormal(1, 3, 2000) * scale
    judge = NumberLoss(np.quantile(labels[:500], np.linspace(0, 1, 101)).tolist())
    losses = judge.losses(random.normal(0, 50 * scale, (2000, 1)), labels)
    assert losses.min() >= 0 and losses.max() <= 1
    classes = [str(number) for number in range(50)]
    judge = ClassesLoss(classes, classes)
    answers = judge.answers(random.dirichlet(np.full(50, 0.05), 2000), spec(*classes))
    losses = judge.losses(answers, random.integers(0, 50, 2000).astype(float))
    assert losses.min() >= 0 and losses.max() <= 1


def test_a_number_that_many_labels_have_is_one_rank_and_near_it_is_nearly_right():
    judge = NumberLoss([0] * 51 + [float(number) for number in range(1, 51)])  # half of the labels are 0
    assert loss(judge, NUMBER, [[0.0], [0.01], [-3.0], [50.0]], ["0"] * 4) == [0.0, 0.0026, 0.0, 0.75]


@pytest.mark.parametrize(
    ("stable", "canary", "cells"),
    [
        ("abc", "cab", "cab"),  # by name, in whatever order
        ("ab", "abc", "abc"),  # production does not know c, so c has probability 0
        (["a", "b", OTHER], ["a", "b", "c", OTHER], ["a", "b", OTHER]),  # in production, c is in OTHER
        (["a", "b", OTHER], ["a", "c", OTHER], ["a", OTHER]),
        (["a", "b"], ["a", "b", "c", OTHER], ["a", "b", "c", OTHER]),
        (["a", "b", "c"], ["a", "b", OTHER], ["a", "b", OTHER]),
    ],
)
def test_versions_with_other_classes_are_compared_by_the_finest_classes_that_both_have(random, stable, canary, cells):
    judge = ClassesLoss(list(stable), list(canary))
    assert judge.cells == list(cells)
    for classes in (stable, canary):
        answer = judge.answers(random.dirichlet(np.ones(len(classes)), 1), spec(*classes))
        assert answer.shape == (1, len(cells)) and answer.sum() == pytest.approx(1)
    unknown = judge.labels(pd.Series(["never seen"]))[0]
    assert np.isnan(unknown) if OTHER not in cells else judge.cells[int(unknown)] == OTHER


def test_a_class_that_one_version_does_not_know_has_probability_0_there_or_is_in_other_for_both():
    judge = ClassesLoss(["a", "b"], ["b", "a", "c"])
    assert loss(judge, spec("a", "b"), [[1.0, 0.0]] * 2, ["a", "c"]) == [0.0, 1.0]
    assert loss(judge, spec("b", "a", "c"), [[0.0, 0.5, 0.5]] * 2, ["a", "c"]) == [0.25, 0.25]
    judge = ClassesLoss(["a", OTHER], ["a", "c", OTHER])
    assert loss(judge, spec("a", OTHER), [[0.5, 0.5]] * 2, ["c", "new"]) == [0.25, 0.25]
    assert loss(judge, spec("a", "c", OTHER), [[0.5, 0.2, 0.3]] * 2, ["c", "new"]) == [0.25, 0.25]


def test_a_version_does_not_win_by_telling_fewer_classes_apart_and_the_look_names_them(random):
    fine, coarse = spec(*"abcdef", OTHER), spec("a", OTHER)
    judge = ClassesLoss(fine.classes, coarse.classes)
    true = random.dirichlet(np.ones(7), 3000)
    labels = judge.labels(pd.Series([random.choice(fine.classes, p=p) for p in true])).to_numpy()
    merged = np.stack([true[:, 0], true[:, 1:].sum(1)], axis=1)
    of_fine, of_coarse = (
        judge.losses(judge.answers(values, of), labels).mean() for values, of in ((true, fine), (merged, coarse))
    )
    assert of_fine == pytest.approx(of_coarse)
    [warning] = judge.warnings
    assert warning == (
        "5 of 6 classes are compared together, as (other), because one version does not know them: 'b', 'c', 'd' and "
        "2 more"
    )


def test_labels_are_read_as_classes_by_their_text_and_integers_by_their_value():
    text = ClassesLoss(["NA", "b c", "7"], ["NA", "b c", "7"])
    assert text.labels(pd.Series(["NA", "7", "b c"])).tolist() == [0, 2, 1]
    assert text.labels(pd.Series(["7.0", "na"])).isna().all(), "the classes are text"
    whole = ClassesLoss(["0", "3", "-1"], ["0", "3", "-1"])
    assert whole.labels(pd.Series(["3", "3.0", "-1", "0.0"])).tolist() == [1, 1, 2, 0]
    assert whole.labels(pd.Series(["3.5", "x"])).isna().all()
    learned = ClassesLoss(["3", OTHER], ["3", OTHER])
    assert learned.labels(pd.Series(["3.0", "4", OTHER])).tolist() == [0, 1, 1]


def test_an_answer_that_is_no_probability_or_no_number_is_not_usable():
    ab = spec("a", "b")
    values = np.array([[0.5, 0.5], [0.5, 0.504], [0.9, 0.9], [1.5, -0.5], [np.nan, 1.0]])
    answers = ClassesLoss(ab.classes, ab.classes).answers(values, ab)
    assert np.isnan(answers).any(axis=1).tolist() == [False, False, True, True, True]
    assert answers[1].sum() == pytest.approx(1)
    answers = NumberLoss(PERCENT).answers(np.array([[-5.0], [np.inf], [np.nan]]), NUMBER)
    assert np.isnan(answers[:, 0]).tolist() == [False, True, True]


def test_versions_that_predict_different_things_are_not_compared_and_it_is_said_why():
    binary = LabelSpec(kind="binary", column="b", output="probability", positive=["1"])
    with pytest.raises(
        IncomparableError, match="production predicts a label of kind 'binary', and the canary one of kind 'number'"
    ):
        loss_between(binary, NUMBER)
    with pytest.raises(IncomparableError, match="production predicts the column 'n', and the canary the column 'tips'"):
        loss_between(NUMBER, NUMBER.model_copy(update={"column": "tips"}))
    with pytest.raises(IncomparableError, match="production predicts whether 'b' is '1', and the canary whether it is"):
        loss_between(binary, binary.model_copy(update={"positive": ["1", "2"]}))
    with pytest.raises(IncomparableError, match="no quantiles of at least two numbers"):
        loss_between(NUMBER, NUMBER.model_copy(update={"quantiles": [5.0] * 101}))
    with pytest.raises(IncomparableError, match="the config no longer says which of its values count as 1"):
        loss_between(binary, binary.model_copy(update={"positive": []}))
    assert {kind.name for kind in map(loss_between, *[[binary, NUMBER, spec(*"ab")]] * 2)} == {
        "Brier score",
        "rank error",
        "Brier score / 2",
    }
