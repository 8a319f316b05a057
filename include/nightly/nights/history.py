"""What the data gate found night by night: the history of each figure."""

import datetime as dt
from dataclasses import dataclass

from nightly.io.paths import Paths
from nightly.records.night import GateResult, Night, Reason


@dataclass(frozen=True)
class NightFindings:
    night: Night
    result: GateResult


def findings(paths: Paths, model: str) -> list[NightFindings]:
    """Every night that the data gate has judged, by as-of time and, for the same time, by when it was judged."""
    found = [
        NightFindings(Night.load(path.with_name("request.json")), GateResult.load(path))
        for path in (paths.nights / model).glob("*/data_gate.json")
    ]
    return sorted(found, key=lambda one: (one.night.as_of, one.result.decided_at))


def history(
    paths: Paths, model: str, check: str, subject: str = "", control: str | None = None
) -> list[tuple[dt.datetime, str, Reason]]:
    """One figure over the nights: (as of, run id, finding) by as-of time.

    :param control: only against this control; None is against any
    """
    return [
        (one.night.as_of, one.night.run_id, reason)
        for one in findings(paths, model)
        for reason in one.result.reasons
        if reason.check == check and reason.subject == subject and control in (None, reason.control)
    ]
