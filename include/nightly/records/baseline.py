"""A baseline: the statistics of an accepted snapshot. A control: the baseline that a night is compared with."""

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.config import ControlName


class Baseline(Contract):
    """<baselines>/<model>/<as of>-<snapshot>/baseline.json, beside the statistics (a folder a split)."""

    model: str
    run_id: str
    as_of: AwareDatetime
    snapshot_id: str
    accepted_at: AwareDatetime
    rows: int | None = None  # of the snapshot, as what follows; None in baselines of older versions
    label_counts: dict[str, int] = {}
    label_by_value: dict[str, dict[str, tuple[int, int]]] = {}  # feature -> value -> labelled and positive rows
    files: dict[str, str] | None = None  # the statistics' paths in the folder -> sha256


class Control(Contract):
    """What a night is compared with; or why there is nothing of that name."""

    name: ControlName
    factor: float  # on the thresholds
    folder: str = ""  # the baseline's; "" where there is none
    baseline: Baseline | None = None
    missing: str = ""  # why

    @property
    def title(self) -> str:
        """As a person calls it."""
        day = f" ({self.baseline.as_of:%Y-%m-%d})" if self.baseline else ""
        return {
            "last_accepted": f"the last accepted snapshot{day}",
            "production": f"the snapshot of the model in production{day}",
            "same_weekday": f"the same weekday weeks before{day}",
            "same_season": f"the same season a year before{day}",
        }[self.name]
