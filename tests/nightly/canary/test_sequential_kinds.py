"""How often the test is wrong for the losses of classes and numbers, by simulated comparisons with fixed seeds.

The losses are those of `losses.py` for predictions and labels that are drawn, of callers who differ. `-s` prints rates.
"""

from collections.abc import Callable

import numpy as np
import pytest

from nightly.canary.losses import ClassesLoss, NumberLoss
from nightly.canary.sequential import interval, mean_and_variance

pytestmark = pytest.mark.slow

ALPHA, NIGHTS, CHUNK = 0.05, 40, 100
CUSTOMS, DRAWS = 50, 2000  # customs: how callers are; a caller has one, with its own losses
Losses = np.ndarray  # [CUSTOMS, DRAWS]


def classes(noise: float, sure: float = 0.0) -> Losses:
    """Losses of probabilities over five classes; `sure`: how much likelier the first is, in logits."""
    random = np.random.default_rng(1)
    names = list("abcde")
    logits = random.normal(0, 1, (CUSTOMS, 1, 5)) + random.normal(0, 1, (CUSTOMS, DRAWS, 5))
    logits[..., 0] += sure
    labels = (logits + random.gumbel(size=logits.shape)).argmax(-1)
    answers = np.exp(logits + random.normal(0, noise, logits.shape))
    answers = (answers / answers.sum(-1, keepdims=True)).reshape(-1, 5)
    return ClassesLoss(names, names).losses(answers, labels.ravel().astype(float)).reshape(CUSTOMS, DRAWS)


def numbers(noise: float, zeros: float = 0.0) -> Losses:
    """Losses of predictions of a number with a long tail; `zeros`: the share of labels that are 0, at random."""
    random = np.random.default_rng(2)
    known = random.normal(0, 0.5, (CUSTOMS, 1)) + random.normal(0, 1, (CUSTOMS, DRAWS))
    labels = np.exp(known + random.normal(0, 1, known.shape)) * (random.random(known.shape) >= zeros)
    answers = np.exp(known + random.normal(0, noise, known.shape))
    loss = NumberLoss(np.quantile(labels[::2], np.linspace(0, 1, 101)).tolist())
    return loss.losses(answers.reshape(-1, 1), labels.ravel()).reshape(CUSTOMS, DRAWS)


def comparisons(
    canary: Losses, stable: Losses, *, callers: tuple[int, int], a_night: float, margin: float, runs: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """low and high, [runs, nights], of comparisons that are looked at every night.

    :param callers: of the canary and of the stable version
    :param a_night: predictions of a caller; some callers have twenty times as many as others
    """
    random = np.random.default_rng(seed)
    lows, highs = [], []
    for _ in range(runs // CHUNK):
        sides = []
        for pool, number in zip((canary, stable), callers, strict=True):
            busy = (random.pareto(3, CHUNK * number).clip(max=20) + 0.5) * a_night
            sides.append((pool, busy, random.integers(0, CUSTOMS, CHUNK * number), np.zeros((2, CHUNK * number))))
        low, high = np.empty((2, CHUNK, NIGHTS))
        for night in range(NIGHTS):
            measured = []
            for pool, busy, customs, kept in sides:
                made = random.poisson(busy)
                who = np.arange(len(made)).repeat(made)
                losses = pool[customs[who], random.integers(0, DRAWS, len(who))]
                kept += np.stack([np.bincount(who, losses, len(made)), made])
                measured.append(mean_and_variance(*kept.reshape(2, CHUNK, -1)))
            (mean, variance), (stable_mean, stable_variance) = measured
            low[:, night], high[:, night] = interval(
                mean - stable_mean, variance + stable_variance, alpha=ALPHA, scale=margin
            )
        lows.append(low)
        highs.append(high)
    return np.concatenate(lows), np.concatenate(highs)


def ever(condition: np.ndarray) -> float:
    """In what share of the comparisons it was so on some night."""
    return float(condition.any(axis=1).mean())


LOSSES: dict[str, Callable[[float], Losses]] = {
    "classes": classes,
    "classes, one of them nearly always": lambda noise: classes(noise, sure=7),
    "numbers": numbers,
    "numbers, half of them 0": lambda noise: numbers(noise, zeros=0.5),
}
EACH_LOSS = pytest.mark.parametrize("name", LOSSES)


@EACH_LOSS
def test_equal_versions_are_told_apart_at_most_as_often_as_alpha_says_for_every_loss(name):
    losses = LOSSES[name](0.5)
    low, high = comparisons(losses, losses, callers=(60, 300), a_night=0.5, margin=0.02, runs=1000)
    wrong = ever((low > 0) | (high < 0))
    print(f"{name}: loss {losses.mean():.3f} ± {losses.std():.3f}; equal versions were told apart in {wrong:.1%}")
    assert wrong <= ALPHA


@EACH_LOSS
def test_a_canary_that_is_worse_by_the_margin_is_promoted_at_most_as_often_as_alpha_says_for_every_loss(name):
    good, bad = LOSSES[name](0.0), LOSSES[name](0.9)
    margin = bad.mean() - good.mean()
    low, high = comparisons(bad, good, callers=(60, 300), a_night=0.5, margin=margin, runs=1000)
    print(f"{name}: worse by the margin of {margin:.4f}: promoted in {ever(high < margin):.1%}")
    assert ever(high < margin) <= ALPHA
    assert ever((low > margin) | (high < margin)) <= ALPHA, "the interval does not hold the true difference"


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_a_real_difference_is_found_and_an_equal_canary_is_promoted_for_every_loss(name):
    good, bad = LOSSES[name](0.0), LOSSES[name](1.2)
    margin = (bad.mean() - good.mean()) / 2
    how = {"callers": (150, 600), "a_night": 2, "margin": margin, "runs": 100}
    low, high = comparisons(bad, good, **how)
    stopped = ever(low > 0)
    _, high_of_equals = comparisons(good, good, **how)
    promoted = ever(high_of_equals < margin)
    print(
        f"{name}: worse by twice the margin of {margin:.4f}: stopped in {stopped:.1%}; "
        f"an equal one promoted {promoted:.1%}"
    )
    assert stopped > 0.95 and ever(high < margin) < 0.01
    assert promoted > 0.9


@pytest.mark.parametrize(
    ("deviation", "usual", "most"),
    [(0.1, 1_100, 2_000), (0.14, 1_800, 3_800), (0.2, 3_500, 7_600), (0.22, 4_200, 9_100)],
)
def test_labels_until_an_equal_canary_is_promoted_are_as_the_guide_says(deviation, usual, most):
    """docs/how-to/canary.md has these: for half and for nine in ten of the comparisons, of callers who ask once."""
    random, runs, step, share, margin = np.random.default_rng(3), 2000, 50, 0.1, 0.01
    labelled = np.arange(step, 40_000, step)
    sizes = labelled, labelled * (1 - share) / share

    def mean(each: float) -> np.ndarray:
        """The mean loss after each step of `each` predictions, less the true one."""
        sums = random.normal(0, deviation * np.sqrt(each), (runs, len(labelled))).cumsum(axis=1)
        return sums / (np.arange(1, len(labelled) + 1) * each)

    difference = mean(step) - mean(step * (1 - share) / share)
    variance = sum(deviation**2 / size + 1 / size**2 for size in sizes)
    _, high = interval(difference, variance, alpha=ALPHA, scale=margin)
    until = labelled[(high < margin).argmax(axis=1)]
    print(f"deviation {deviation}: promoted after {np.quantile(until, [0.5, 0.9])} labelled predictions")
    assert np.quantile(until, [0.5, 0.9]) == pytest.approx([usual, most], rel=0.05)
