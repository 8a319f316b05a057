"""The findings that the checks return."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from nightly.records.night import Contribution, Reason, breaks_threshold

CONTRIBUTIONS = 3  # values that a finding names
CHANCE = 0.01  # of nights without a fault may have a change that looks like one


def finding(
    check: str,
    subject: str,
    figure: float,
    threshold: float,
    text: str,
    *,
    action: str,
    limit: str = "",
    more: str = "",
    headline: str = "",
    control: str = "",
    sample: int | None = None,
    enough: int | None = None,
    chance: float | None = None,
    values: Iterable[Contribution] = (),
    label: str = "",
    rows: Callable[[], list[str]] = list,
) -> Reason:
    """Return a finding that holds if `figure` is beyond `threshold` and rests on enough rows.

    :param text: the measured values in words; the message is `text`, `limit` and `more`
    :param limit: the threshold in words
    :param headline: the finding as part of a sentence; `text` and `more` by default
    :param sample: the number of rows that the figure rests on
    :param enough: with fewer rows, a broken threshold is only a warning
    :param chance: how far chance can move the figure; a figure up to it never holds, whatever the threshold
    :param rows: returns references to example rows; called only if the threshold is broken
    """
    threshold = max(threshold, chance or 0)
    broken = breaks_threshold(check, figure, threshold)
    judged = sample is None or enough is None or sample >= enough
    message = (f"{text}; {limit}" if limit else text) + more
    if broken and not judged:
        message += f" (not judged: it rests on {sample:,} rows, and fewer than {enough:,} say nothing)"
    return Reason(
        check=check,
        subject=subject,
        figure=_rounded(figure),
        threshold=_rounded(threshold),
        held=broken and judged,
        message=message,
        headline=headline or text + more,
        action=action,
        severity=("error" if judged else "warning") if broken else "info",
        control=control,
        sample=sample,
        enough=enough,
        chance=None if chance is None else _rounded(chance),
        values=list(values),
        label=label,
        rows=rows() if broken else [],
    )


def fault(check: str, subject: str, message: str, **details: Any) -> Reason:
    """Return a finding that holds whatever the thresholds are."""
    return Reason(
        check=check, subject=subject, held=True, severity="error", message=message, headline=message, **details
    )


def not_measured(check: str, why: str, *, subject: str = "", control: str = "", title: str = "") -> Reason:
    """Return a warning that a check was not possible, so that nobody mistakes it for passed."""
    against = f" against {title}" if title else ""
    return Reason(
        check=check,
        subject=subject,
        figure=None,
        threshold=None,
        held=False,
        severity="warning",
        control=control,
        message=f"{check}{against} was not measured: {why}",
    )


def chance_of_change(now: int, before: int, comparisons: int = 1) -> float:
    """Return the change of a share that chance exceeds in 1 % of nights, if nothing has changed.

    It is the bound of Hoeffding for a share, and of Kolmogorov and Smirnov for the largest change of a distribution
    function. It takes both sides for independent. Sides that share rows differ less.

    :param now: rows of this night
    :param before: rows of the control
    :param comparisons: how many are made; by Bonferroni's inequality, each gets its part of the 1 %
    """
    return math.sqrt(math.log(2 * comparisons / CHANCE) / 2 * (1 / now + 1 / before))


def worst(findings: Iterable[Reason]) -> list[Reason]:
    """Return the finding furthest beyond its threshold, or [] if there are none."""
    reasons = list(findings)
    return [max(reasons, key=lambda reason: (reason.held, reason.figure / reason.threshold))] if reasons else []


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else float(f"{number:.6g}")
