"""Apply proposed thresholds to past nights' findings, without measuring anything again. The command is bin/replay."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import get_args

from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.nights.history import NightFindings
from nightly.records.config import ModelConfig
from nightly.records.data_gate_config import ControlName
from nightly.records.night import NEWEST_DAYS, Reason, breaks_threshold
from nightly.schemas.curated import comparators, override_thresholds, read_schema
from nightly.schemas.store import SchemaStore

QUANTILE = 0.99  # of the values of nights that passed
MARGIN = 1.25  # a factor on the quantile: history is short, and the next night may be more unusual than any before
ENOUGH_NIGHTS = 10  # values of fewer nights do not show what is usual
CONTROLS = get_args(ControlName)
WHOLE = ("min_rows", "max_missing_days", "max_doubled_days", "max_new_classes", "max_lost_classes")  # integers


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a config and schema, with a person's proposed changes."""

    config: ModelConfig
    schema: dict[str, float]  # "drift.FEATURE" or "skew.FEATURE" -> threshold

    @classmethod
    def of(cls, model: str, proposed: dict[str, float]) -> "Thresholds":
        """Read the model's thresholds and apply `proposed`.

        Raises ContractError and SchemaError, which suggest the closest name.
        """
        config = load_config(model).with_overrides(proposed)
        schemas = SchemaStore(Paths.from_environment(), model)
        schema = read_schema(schemas.path(schemas.current()))
        override_thresholds(schema, proposed)
        return cls(config, comparators(schema))

    def base(self, key: str) -> float | None:
        """Return the threshold `key` (as in --set), without a control's factor; None if there is none."""
        section, _, name = key.partition(".")
        return getattr(self.config.data_gate, name, None) if section == "data_gate" else self.schema.get(key)

    def of_reason(self, reason: Reason) -> float | None:
        """Return the threshold for a finding; None if it has none, or if the config has dropped its control."""
        base = self.base(key_of(reason))
        factor = self.config.data_gate.controls.get(reason.control, None if reason.control in CONTROLS else 1)
        return None if base is None or factor is None else base * factor

    def holds(self, reason: Reason) -> bool:
        """Return whether a past finding would hold its night under these thresholds."""
        if not is_number(reason.figure) or reason.control == NEWEST_DAYS:
            return reason.held  # such as a schema anomaly or a missing label, which have no threshold
        threshold = self.of_reason(reason)
        if threshold is None:
            return reason.held and reason.control not in CONTROLS
        enough = reason.sample is None or reason.sample >= self._min_sample(reason)
        threshold = max(float(f"{threshold:.6g}"), reason.chance or 0)
        return enough and breaks_threshold(reason.check, reason.figure, threshold)

    def _min_sample(self, reason: Reason) -> int:
        return self.config.data_gate.min_rows_for_distance if reason.enough is not None else 0


def key_of(reason: Reason) -> str:
    """Return the key of a finding's threshold in --set and in a run's own thresholds."""
    return f"{reason.check}.{reason.subject}" if reason.check in ("drift", "skew") else f"data_gate.{reason.check}"


def is_number(value: float | str | None) -> bool:
    return isinstance(value, int | float)


def replay(nights: list[NightFindings], thresholds: Thresholds) -> dict[int, list[Reason]]:
    """Return position in `nights` -> findings that would have held that night."""
    held = {n: [r for r in night.result.reasons if thresholds.holds(r)] for n, night in enumerate(nights)}
    return {n: reasons for n, reasons in held.items() if reasons}


def suggest(
    nights: list[NightFindings], thresholds: Thresholds, *, margin: float = MARGIN, enough: int = ENOUGH_NIGHTS
) -> dict[str, tuple[float, int]]:
    """Return key -> (a threshold from the nights that passed, the number of values behind it).

    The threshold is the 0.99 quantile of the values, each divided by its control's factor, times `margin`. For a min_…
    key it is the 0.01 quantile divided by it. What chance explains counts as 0. Keys with fewer than `enough` values,
    or only zeros, are left out.
    """
    history: dict[str, list[float]] = defaultdict(list)
    for night in nights:
        for reason in night.result.reasons if night.result.passed else []:
            base, threshold = thresholds.base(key_of(reason)), thresholds.of_reason(reason)
            if is_number(reason.figure) and base and threshold and (reason.sample or math.inf) >= (reason.enough or 0):
                figure = reason.figure if reason.chance is None or reason.figure > reason.chance else 0.0
                history[key_of(reason)].append(figure * base / threshold)
    suggestions = {}
    for key, values in sorted(history.items()):
        name = key.partition(".")[2]
        values.sort()
        if len(values) < enough or values[-1] == 0:
            continue
        lower = name.startswith("min_")
        threshold = _quantile(values, 1 - QUANTILE) / margin if lower else _quantile(values, QUANTILE) * margin
        if name in WHOLE:
            threshold = math.floor(threshold) if lower else math.ceil(threshold)
        if name.endswith("_factor"):
            threshold = max(threshold, 1.0)
        if name.endswith(("_share", "_change", "_by_value")):
            threshold = min(threshold, 1.0)
        suggestions[key] = (threshold if isinstance(threshold, int) else float(f"{threshold:.2g}"), len(values))
    return suggestions


def _quantile(ordered: list[float], share: float) -> float:
    """Return a quantile, linearly interpolated between the two nearest values."""
    position = share * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below + (above - below) * (position - math.floor(position))
