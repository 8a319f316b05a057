"""How often the test is wrong, and how soon it is right, measured by simulated comparisons with fixed seeds."""

import numpy as np
import pytest

from nightly.canary.sequential import MISMATCH_ALPHA, by_caller, interval, mean_and_variance, share_evidence

pytestmark = pytest.mark.slow

RUNS, NIGHTS, ALPHA, MARGIN = 2000, 40, 0.05, 0.02


def comparisons(
    seed: int, *, callers: tuple[int, int], a_night: float, worse: float = 0.0, habit: float = 0.0, runs: int = RUNS
) -> tuple[np.ndarray, np.ndarray]:
    """low and high, [runs, nights], of comparisons that are looked at every night.

    :param callers: of the canary and of the stable version
    :param a_night: predictions of a caller; they come by chance, and some callers have twenty times as many as others
    :param worse: by how much the canary's Brier score is
    :param habit: how much alike those of one caller are, as the deviation between callers
    """
    random = np.random.default_rng(seed)
    lows, highs = [], []
    chunk = 200  # runs at a time, for memory
    for _ in range(runs // chunk):
        sides = []
        for number, shift in zip(callers, (worse, 0.0), strict=True):
            busy = random.pareto(3, (chunk, number)).clip(max=20) + 0.5
            usual = random.normal(0.15 + shift, habit, (chunk, number)).clip(0.01, 0.9)
            sides.append((busy * a_night, usual, np.zeros((2, chunk, number))))
        low, high = np.empty((2, chunk, NIGHTS))
        for night in range(NIGHTS):
            measured = []
            for rate, usual, kept in sides:
                made = random.poisson(rate)
                # A sum of Brier scores: each is 0 to 1, with most of them small and the mean `usual`.
                shape = np.maximum(made * 0.6, 1e-9)
                scores = random.beta(shape * usual, shape * (1 - usual)) * made
                kept[0] += np.where(made > 0, scores, 0)
                kept[1] += made
                measured.append(mean_and_variance(*kept))
            (canary, variance), (stable, stable_variance) = measured
            low[:, night], high[:, night] = interval(
                canary - stable, variance + stable_variance, alpha=ALPHA, scale=MARGIN
            )
        lows.append(low)
        highs.append(high)
    return np.concatenate(lows), np.concatenate(highs)


def ever(condition: np.ndarray) -> float:
    """In what share of the comparisons it was so on some night."""
    return float(condition.any(axis=1).mean())


@pytest.mark.parametrize(
    ("callers", "a_night", "habit"),
    [((200, 200), 1, 0.0), ((60, 540), 1, 0.0), ((60, 540), 1, 0.08), ((300, 60), 3, 0.08)],
    ids=["equal sides", "a tenth gets the canary", "callers are alike in themselves", "more get the canary"],
)
def test_equal_versions_are_told_apart_at_most_as_often_as_alpha_says_though_every_night_is_looked_at(
    callers, a_night, habit
):
    low, high = comparisons(1, callers=callers, a_night=a_night, habit=habit)
    assert ever((low > 0) | (high < 0)) <= ALPHA
    assert ever(low > 0) <= ALPHA


def test_a_canary_that_is_worse_by_the_margin_is_promoted_at_most_as_often_as_alpha_says():
    low, high = comparisons(2, callers=(60, 540), a_night=3, worse=MARGIN, habit=0.03)
    assert ever(high < MARGIN) <= ALPHA
    assert ever((low > MARGIN) | (high < MARGIN)) <= ALPHA, "the interval does not hold the true difference"


def test_a_fixed_interval_looked_at_every_night_would_be_wrong_many_times_as_often():
    """What the sequence is for: the same nights, judged by 1.96 standard errors."""
    random = np.random.default_rng(3)
    losses = random.beta(0.3, 1.7, (2, RUNS, NIGHTS, 20))
    seen = np.cumsum(np.full(NIGHTS, 20))
    mean = losses.sum(-1).cumsum(-1) / seen
    error = np.sqrt(2 * 0.15 * 0.85 / 3 / seen)  # the beta's own variance
    assert ever(np.abs(mean[0] - mean[1]) > 1.96 * error) > 4 * ALPHA


def test_predictions_taken_for_independent_would_be_wrong_where_callers_are_alike_in_themselves():
    """Why the callers are the units: few of them, who ask often."""
    random = np.random.default_rng(4)
    number, each = 100, 200
    wrong = {"predictions": 0, "callers": 0}
    for _ in range(200):
        sides = {"predictions": [], "callers": []}
        for _ in range(2):
            usual = random.normal(0.15, 0.08, number).clip(0.01, 0.9).repeat(each)
            losses = random.beta(0.6 * usual, 0.6 * (1 - usual))
            names = np.arange(number).repeat(each)
            sides["predictions"].append(mean_and_variance(*by_caller(losses, np.arange(number * each))))
            sides["callers"].append(mean_and_variance(*by_caller(losses, names)))
        for unit, ((mean, variance), (other, other_variance)) in sides.items():
            low, high = interval(mean - other, variance + other_variance, alpha=ALPHA, scale=MARGIN)
            wrong[unit] += bool(low > 0 or high < 0)
    assert wrong["callers"] <= 200 * ALPHA < wrong["predictions"]


def test_a_real_difference_is_found_and_an_equal_canary_is_promoted_within_the_comparison():
    how = {"callers": (120, 1080), "a_night": 4, "habit": 0.03, "runs": 400}
    low, high = comparisons(5, worse=2 * MARGIN, **how)
    assert ever(low > 0) > 0.95 and ever(high < MARGIN) < 0.01
    low, high = comparisons(6, worse=0.0, **how)
    assert ever(high < MARGIN) > 0.9
    low, high = comparisons(7, worse=-2 * MARGIN, **how)
    assert ever(high < 0) > 0.95


def test_once_the_interval_is_narrower_than_the_margin_one_of_the_two_ends_is_reached():
    low, high = comparisons(8, callers=(300, 900), a_night=6, worse=MARGIN / 2, runs=200)
    narrow = high - low < MARGIN
    assert narrow[:, -1].all()
    assert ((low > 0) | (high < MARGIN))[narrow].all()


def test_a_streak_without_an_error_is_not_taken_for_certainty():
    mean, variance = mean_and_variance(np.zeros(100), np.ones(100))
    low, high = interval(mean, 2 * variance, alpha=ALPHA, scale=MARGIN)
    assert mean == 0 and low < -0.03 and high > 0.03


def test_the_variance_is_that_of_the_mean_over_repeated_draws_of_callers():
    random = np.random.default_rng(9)
    counts = random.poisson(random.pareto(3, (4000, 300)) * 4 + 1)
    usual = random.normal(0.2, 0.05, counts.shape).clip(0, 1)
    sums = usual * counts
    mean, variance = mean_and_variance(sums, counts)
    assert variance.mean() == pytest.approx(mean.var(), rel=0.1)


def test_shares_as_configured_are_called_a_mismatch_hardly_ever_and_others_soon():
    random = np.random.default_rng(10)

    def mismatch(true: float, share: float, callers: int = 5000) -> float:
        canary = (random.random((RUNS, callers // 50, 50)) < true).sum(-1).cumsum(-1)
        seen = np.arange(1, callers // 50 + 1) * 50
        return ever(share_evidence(canary, seen - canary, share) >= 1 / MISMATCH_ALPHA)

    assert mismatch(0.1, 0.1) <= 2 * MISMATCH_ALPHA
    assert mismatch(0.5, 0.5) <= 2 * MISMATCH_ALPHA
    assert mismatch(0.13, 0.1) > 0.95
    assert mismatch(0.07, 0.1) > 0.95
