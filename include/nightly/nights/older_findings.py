"""Read from a finding's message what older records have no field for: its headline, its label and its kind of bound."""

import math
import re

from nightly.nights.moves import label_change
from nightly.records.night import Reason

LIMIT = re.compile(r"; [^;]* (?:is|are) (?:allowed|required|wanted)(?=;|$)")
LABEL = re.compile(r"[\d.]+% of .+? are (.+), [\d.]+% in ")
MEDIANS = re.compile(r"; (its median is .+)$")


def headline(reason: Reason) -> str:
    """Return the finding as part of a sentence, without its bound."""
    if reason.check == "max_label_change" and reason.values and (before := reason.values[0].control) is not None:
        medians = MEDIANS.search(reason.message)
        change = medians[1] if medians else label_change(label(reason), reason.values[0].share, before)
        return f"{reason.subject}: {change}"
    return LIMIT.sub("", reason.message)


def label(reason: Reason) -> str:
    """Return the label whose share is given; the oldest findings are of binary labels."""
    changed = LABEL.search(reason.message)
    return changed[1] if changed else "positive"


def bound(reason: Reason) -> str:
    """Return the kind of a metric's threshold, inferred from its sign, or from the value and whether it held."""
    figure, threshold = reason.figure, reason.threshold
    if reason.is_change:
        is_rise = isinstance(threshold, float | int) and math.copysign(1, threshold) > 0  # 0.0 and -0.0 differ
        return "rise" if is_rise else "drop"
    if not isinstance(figure, float | int) or not isinstance(threshold, float | int) or figure == threshold:
        is_ceiling = "at most" in reason.message
    else:
        is_ceiling = (figure < threshold) != reason.held
    return "ceiling" if is_ceiling else "floor"
