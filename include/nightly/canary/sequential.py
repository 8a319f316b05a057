"""The statistical tests: a confidence sequence for the difference of two means, and an e-value for the callers' shares.

A confidence sequence holds at all looks together, so it may be checked every night, and the comparison may stop as soon
as it is clear. An ordinary confidence interval that is checked every night until it excludes 0 is wrong far more often
than its alpha.

The randomized units are the callers, not their predictions: predictions of one caller are alike, and a hundred of them
carry hardly more information than one. So each side's mean has the variance of a mean of clusters (Cameron and Miller
2015). The difference is tested by Robbins' mixture of sequential probability ratio tests over a normal N(0, scale^2)
(Johari, Koomen, Pekelis and Walsh 2022). For means of any distribution this is the asymptotic confidence sequence of
Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of Statistics 2024). Asymptotic means that it needs some callers
before the first look. tests/nightly/canary/test_sequential.py measures its rate of errors.
"""

import numpy as np
from scipy.special import betaln

MIN_CALLERS = 50  # on each side; fewer clusters underestimate the variance (Cameron and Miller, section VI)
PRIOR_CALLERS = 100  # the prior's weight on the expected share; detects 12 % instead of 10 % within 3,000 callers
MISMATCH_ALPHA = 0.001  # a mismatch means that something is broken, which is rare, so the evidence must be strong


def by_caller(losses: np.ndarray, callers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each caller's sum of losses and number of predictions, [callers] each, from `losses` and `callers` [n]."""
    _, index = np.unique(callers, return_inverse=True)
    return np.bincount(index, weights=losses), np.bincount(index).astype(float)


def mean_and_variance(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss of a prediction and the variance of that mean, for losses from 0 to 1.

    :param sums: [..., callers], each caller's sum of losses
    :param counts: [..., callers], its number of predictions; 0 before its first one
    """
    predictions = counts.sum(-1)
    callers = (counts > 0).sum(-1)
    mean = sums.sum(-1) / predictions
    residuals = sums - mean[..., np.newaxis] * counts
    # The 1 adds one completely wrong prediction. Otherwise a run without errors would have no variance.
    spread = (residuals**2).sum(-1) + 1
    return mean, spread * callers / np.maximum(callers - 1, 1) / predictions**2


def interval(difference, variance, *, alpha: float, scale: float):
    """Return the confidence sequence at one look: (low, high) of the true difference, elementwise.

    :param variance: the variance of the estimated `difference`
    :param alpha: the probability that any of all looks excludes the true difference
    :param scale: the difference for which the sequence is narrowest: the smallest difference that matters
    """
    wide = (variance + scale**2) / scale**2
    half = np.sqrt(variance * wide * np.log((variance + scale**2) / (variance * alpha**2)))
    return difference - half, difference + half


def share_evidence(canary, stable, share: float):
    """Return the e-value against the expected `share`, elementwise. 1 / alpha or more at any look is a mismatch.

    It is the Bayes factor of a beta prior around the share, a martingale if the share holds (Lindon and Malek 2022,
    "Anytime-valid inference for multinomial count data").

    :param canary: number of callers of the canary
    :param stable: number of callers of the stable version
    """
    a, b = PRIOR_CALLERS * share, PRIOR_CALLERS * (1 - share)
    log = betaln(a + canary, b + stable) - betaln(a, b) - canary * np.log(share) - stable * np.log1p(-share)
    return np.exp(np.minimum(log, 700))
