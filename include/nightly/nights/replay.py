"""Proposed thresholds over the past nights' findings, without measuring anything again. The command is bin/replay."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import get_args

from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.nights.history import NightFindings
from nightly.records.config import ControlName, ModelConfig
from nightly.records.night import Reason, breaks_threshold
from nightly.schemas.curated import comparators, override_thresholds, read_schema
from nightly.schemas.store import SchemaStore

QUANTILE = 0.99  # of the figures of nights that passed
MARGIN = 1.25  # on that: history is short, and the next night may be a little more unusual than any before
ENOUGH_NIGHTS = 10  # fewer say nothing about what is ordinary
CONTROLS = get_args(ControlName)
WHOLE = ("min_rows", "max_missing_days", "max_doubled_days")  # counted, not measured


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a config and schema, with what a person proposes in their place."""

    config: ModelConfig
    schema: dict[str, float]  # "drift.FEATURE" or "skew.FEATURE" -> threshold

    @classmethod
    def of(cls, model: str, proposed: dict[str, float]) -> "Thresholds":
        """Raises ContractError and SchemaError, with the nearest valid name."""
        config = load_config(model).with_overrides(proposed)
        schemas = SchemaStore(Paths.from_environment(), model)
        schema = read_schema(schemas.path(schemas.current()))
        override_thresholds(schema, proposed)
        return cls(config, comparators(schema))

    def base(self, key: str) -> float | None:
        """The threshold `key` (as in --set) for the nearest control."""
        section, _, name = key.partition(".")
        return getattr(self.config.data_gate, name, None) if section == "data_gate" else self.schema.get(key)

    def of_reason(self, reason: Reason) -> float | None:
        """The threshold for a finding; None where it has none, or is not measured any more."""
        base = self.base(key_of(reason))
        factor = self.config.data_gate.controls.get(reason.control, None if reason.control in CONTROLS else 1)
        return None if base is None or factor is None else base * factor

    def holds(self, reason: Reason) -> bool:
        """Whether a finding of the past would hold its night."""
        if not is_figure(reason.figure):
            return reason.held  # a schema anomaly, a label that is gone: no threshold to move
        threshold = self.of_reason(reason)
        if threshold is None:
            return reason.held and reason.control not in CONTROLS
        judged = reason.sample is None or reason.sample >= self._enough(reason)
        return judged and breaks_threshold(reason.check, reason.figure, float(f"{threshold:.6g}"))

    def _enough(self, reason: Reason) -> int:
        return self.config.data_gate.min_rows_for_distance if reason.enough is not None else 0


def key_of(reason: Reason) -> str:
    """The name that --set and a run's own thresholds have for a finding's threshold."""
    return f"{reason.check}.{reason.subject}" if reason.check in ("drift", "skew") else f"data_gate.{reason.check}"


def is_figure(figure: float | str | None) -> bool:
    return isinstance(figure, int | float)


def replay(nights: list[NightFindings], thresholds: Thresholds) -> dict[int, list[Reason]]:
    """Which of `nights`, by position, would have been held, and for what."""
    held = {n: [r for r in night.result.reasons if thresholds.holds(r)] for n, night in enumerate(nights)}
    return {n: reasons for n, reasons in held.items() if reasons}


def suggest(nights: list[NightFindings], thresholds: Thresholds) -> dict[str, tuple[float, int]]:
    """key -> a threshold from the nights that passed, and how many figures it is drawn from.

    The 0.99 quantile of the figures, each freed of its control's factor, with a quarter of margin; for a min_… figure
    the 0.01 quantile, less a fifth. Keys with fewer than ten figures, or only zeros, are left out.
    """
    figures: dict[str, list[float]] = defaultdict(list)
    for night in nights:
        for reason in night.result.reasons if night.result.passed else []:
            base, threshold = thresholds.base(key_of(reason)), thresholds.of_reason(reason)
            if is_figure(reason.figure) and base and threshold and (reason.sample or math.inf) >= (reason.enough or 0):
                figures[key_of(reason)].append(reason.figure * base / threshold)
    found = {}
    for key, values in sorted(figures.items()):
        name = key.partition(".")[2]
        values.sort()
        if len(values) < ENOUGH_NIGHTS or values[-1] == 0:
            continue
        lower = name.startswith("min_")
        figure = _quantile(values, 1 - QUANTILE) / MARGIN if lower else _quantile(values, QUANTILE) * MARGIN
        if name in WHOLE:
            figure = math.floor(figure) if lower else math.ceil(figure)
        if name.endswith("_factor"):
            figure = max(figure, 1.0)
        if name.endswith(("_share", "_change", "_by_value")):
            figure = min(figure, 1.0)
        found[key] = (figure if isinstance(figure, int) else float(f"{figure:.2g}"), len(values))
    return found


def _quantile(ordered: list[float], share: float) -> float:
    """Between the two nearest."""
    position = share * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below + (above - below) * (position - math.floor(position))
