"""The checks of the data gate, one module for each kind. A check is a pure function that yields findings."""

from collections.abc import Iterator

from nightly.checks import (
    categories,
    days,
    distances,
    label,
    label_values,
    numbers,
    presence,
    rows,
    schema,
    serving,
    weights,
)
from nightly.checks.evidence import Evidence
from nightly.checks.findings import not_measured
from nightly.records.night import Reason

CHECKS = (
    *(rows.volume, rows.freshness, rows.delivery, rows.usual_volume, days.check),
    *(label.recorded, label_values.usable, label_values.classes, label.balance, weights.check),
    *(schema.check, distances.drift, distances.skew, serving.check),
)
AGAINST_CONTROLS = {  # name of the findings -> check
    "max_label_change_by_value": label.balance_by_value,
    "max_missing_change": presence.missing,
    "constant_feature": presence.constant,
    "max_unseen_share": categories.unseen,
    "max_range_factor": numbers.extremes,
    "max_scale_factor": numbers.scale,
}


def judge(evidence: Evidence) -> Iterator[Reason]:
    """Yield every finding about a night's data, whether it holds the night or not."""
    for check in (*CHECKS, *AGAINST_CONTROLS.values()):
        yield from check(evidence)
    if newest := evidence.newest_days:
        for check in (presence.missing, presence.constant, categories.unseen, numbers.extremes, numbers.scale):
            for reason in check(newest):
                if reason.held:
                    yield reason.model_copy(update={"message": f"in the newest days, {reason.message}"})
    if not evidence.present:
        for name in AGAINST_CONTROLS:
            yield not_measured(name, "there is no control to compare with")
