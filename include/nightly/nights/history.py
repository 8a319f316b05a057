"""The data gate's findings of past nights."""

from dataclasses import dataclass

from nightly.io.paths import Paths
from nightly.records.night import GateResult, Night


@dataclass(frozen=True)
class NightFindings:
    night: Night
    result: GateResult


def findings(paths: Paths, model: str) -> list[NightFindings]:
    """Return the findings of every night that reached the data gate, by as-of time, then by decision time."""
    nights = [
        NightFindings(Night.load(path.with_name(Night.FILE)), GateResult.load(path))
        for path in (paths.nights / model).glob(f"*/{GateResult.DATA_FILE}")
    ]
    return sorted(nights, key=lambda each: (each.night.as_of, each.result.decided_at))
