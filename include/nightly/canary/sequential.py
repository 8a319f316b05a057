"""The test: a confidence sequence for the difference of two means, and one for the shares of the callers.

It holds at all looks together, so that one may look every night and stop when it is clear; a confidence interval of a
fixed sample, looked at every night until it excludes 0, is wrong far more often than its alpha says.

The callers are what chance has divided, so they are the units, and not their predictions: those of one caller are
alike, and a hundred of them say hardly more than one. Each side's mean has the variance of a mean of clusters (Cameron
and Miller 2015), and the difference is judged by Robbins' mixture of sequential probability ratio tests over a normal
N(0, scale^2) (Johari, Koomen, Pekelis and Walsh 2022), which for means of any distribution is the asymptotic
confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics 2024). Asymptotic: it needs
some callers before the first look. tests/nightly/canary/test_sequential.py measures how often it is wrong.
"""

import numpy as np
from scipy.special import betaln

MIN_CALLERS = 50  # on each side; a variance of fewer clusters is too small (Cameron and Miller, section VI)
PRIOR_CALLERS = 100  # that the expected share is worth, where shares are tested: finds 10 % that are 12 % in 3,000
MISMATCH_ALPHA = 0.001  # a mismatch means that something is broken, which is rare, so it takes much to believe it


def by_caller(losses: np.ndarray, callers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of losses and number of predictions, [callers] each, of predictions [n] by `callers` [n] (any hashable)."""
    _, index = np.unique(callers, return_inverse=True)
    return np.bincount(index, weights=losses), np.bincount(index).astype(float)


def mean_and_variance(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss of a prediction, and the variance of that mean, of losses from 0 to 1.

    :param sums: [..., callers], of each caller's losses
    :param counts: [..., callers], of its predictions; 0 for one that is not there yet
    """
    predictions = counts.sum(-1)
    callers = (counts > 0).sum(-1)
    mean = sums.sum(-1) / predictions
    residuals = sums - mean[..., np.newaxis] * counts
    # One prediction more that is wrong altogether, so that a streak without an error is not taken for certainty.
    spread = (residuals**2).sum(-1) + 1
    return mean, spread * callers / np.maximum(callers - 1, 1) / predictions**2


def interval(difference, variance, *, alpha: float, scale: float):
    """The confidence sequence at one look: (low, high) of the true difference, elementwise.

    :param variance: of the estimated `difference`
    :param alpha: the chance that any look of all excludes the true difference
    :param scale: the difference at which the sequence is sharpest: the smallest one that matters
    """
    wide = (variance + scale**2) / scale**2
    half = np.sqrt(variance * wide * np.log((variance + scale**2) / (variance * alpha**2)))
    return difference - half, difference + half


def share_evidence(canary, stable, share: float):
    """The e-value against callers being divided by `share`, elementwise: 1 / alpha or more at any look is a mismatch.

    The Bayes factor of a beta prior around the share, which is a martingale under it (Lindon and Malek 2022,
    "Anytime-valid inference for multinomial count data").

    :param canary: callers of the canary
    :param stable: callers of the stable version
    """
    a, b = PRIOR_CALLERS * share, PRIOR_CALLERS * (1 - share)
    log = betaln(a + canary, b + stable) - betaln(a, b) - canary * np.log(share) - stable * np.log1p(-share)
    return np.exp(np.minimum(log, 700))
