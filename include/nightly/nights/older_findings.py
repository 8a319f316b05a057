"""What older records say of a finding only in its message, which newer ones have as fields."""

import re

from nightly.nights.moves import label_change
from nightly.records.night import Reason

BOUND = re.compile(r"; [^;]* (?:is|are) (?:allowed|required|wanted)(?=;|$)")
LABEL = re.compile(r"[\d.]+% of .+? are (.+), [\d.]+% in ")
MEDIANS = re.compile(r"; (its median is .+)$")


def headline(reason: Reason) -> str:
    """Return the finding as part of a sentence, without its bound."""
    if reason.check == "max_label_change" and reason.values and (before := reason.values[0].control) is not None:
        medians = MEDIANS.search(reason.message)
        change = medians[1] if medians else label_change(label(reason), reason.values[0].share, before)
        return f"{reason.subject}: {change}"
    return BOUND.sub("", reason.message)


def label(reason: Reason) -> str:
    """Return the label whose share is given; the oldest findings are of binary labels."""
    changed = LABEL.search(reason.message)
    return changed[1] if changed else "positive"
