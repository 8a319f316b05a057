"""The data gate's findings of past nights."""

import datetime as dt
from dataclasses import dataclass

from nightly.io.paths import Paths
from nightly.records.night import GateResult, Night, Reason


@dataclass(frozen=True)
class NightFindings:
    night: Night
    result: GateResult


def findings(paths: Paths, model: str) -> list[NightFindings]:
    """Return the findings of every night that reached the data gate, by as-of time, then by decision time."""
    nights = [
        NightFindings(Night.load(path.with_name("request.json")), GateResult.load(path))
        for path in (paths.nights / model).glob("*/data_gate.json")
    ]
    return sorted(nights, key=lambda each: (each.night.as_of, each.result.decided_at))


def history(
    paths: Paths, model: str, check: str, subject: str = "", control: str | None = None
) -> list[tuple[dt.datetime, str, Reason]]:
    """Return one check's findings over the nights: (as of, run id, finding) by as-of time.

    :param control: only findings against this control; None for any
    """
    return [
        (each.night.as_of, each.night.run_id, reason)
        for each in findings(paths, model)
        for reason in each.result.reasons
        if reason.check == check and reason.subject == subject and control in (None, reason.control)
    ]
