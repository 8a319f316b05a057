"""Proposed thresholds over the past nights' findings, without measuring anything again:

    python -m nightly.cli.replay MODEL [--set data_gate.min_rows=2000 --set drift.payment_type=0.03 …]
    python -m nightly.cli.replay MODEL --suggest

Without --set it replays the thresholds of today's config and schema. --suggest gives thresholds that the nights
which passed would have passed too, with a margin; both change nothing.
"""

import argparse
import math
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from typing import get_args

from nightly.io.paths import Places
from nightly.io.tables import print_table
from nightly.models import load_config
from nightly.nights.history import NightFindings, findings
from nightly.records.base import ContractError
from nightly.records.config import ControlName, ModelConfig
from nightly.records.night import Reason, beyond
from nightly.schemas.curated import SchemaError, comparators, override_thresholds, read_schema
from nightly.schemas.store import SchemaStore, SchemaVersionError

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
        schemas = SchemaStore(Places.from_environment(), model)
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
        return judged and beyond(reason.check, reason.figure, float(f"{threshold:.6g}"))

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


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m nightly.cli.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a proposed threshold")
    parser.add_argument("--suggest", action="store_true", help="thresholds calibrated on the nights that passed")
    return parser


def main(words: list[str]) -> int:
    given = parser().parse_args(words)
    try:
        thresholds = Thresholds.of(given.model, dict(_setting(text) for text in given.set))
        nights = findings(Places.from_environment(), given.model)
    except (ContractError, SchemaError, SchemaVersionError) as error:
        print(error, file=sys.stderr)
        return 2
    if not nights:
        print(f"{given.model} has no nights yet that its data gate has judged")
        return 0
    if given.suggest:
        _print_suggestions(nights, thresholds)
        return 0
    _print_replay(nights, replay(nights, thresholds))
    return 0


def _setting(text: str) -> tuple[str, float]:
    """KEY=VALUE, the value as TOML has it."""
    key, equals, value = text.partition("=")
    try:
        number = tomllib.loads(f"value = {value}")["value"] if equals else None
    except tomllib.TOMLDecodeError:
        number = None
    if not is_figure(number) or isinstance(number, bool):
        raise ContractError(f"--set {text}: give KEY=NUMBER, e.g. data_gate.min_rows=2000 or drift.payment_type=0.03")
    return key.strip(), number


def _print_replay(nights: list[NightFindings], held: dict[int, list[Reason]]) -> None:
    was = sum(not night.result.passed for night in nights)
    print(f"would have held {len(held)} of {len(nights)} nights ({was} were held)")
    for number, night in enumerate(nights):
        reasons = held.get(number, [])
        if not reasons and night.result.passed:
            continue
        state = "held" if not night.result.passed else "passed"
        print(f"  {night.night.as_of:%Y-%m-%d}  {night.night.run_id}: {state}, would {'hold' if reasons else 'pass'}")
        for reason in reasons:
            against = f" against {reason.control}" if reason.control else ""
            figure = f"{reason.figure:.4g}" if is_figure(reason.figure) else reason.figure
            print(f"    {reason.check} {reason.subject}{against}: {figure}".rstrip())


def _print_suggestions(nights: list[NightFindings], thresholds: Thresholds) -> None:
    passed = sum(night.result.passed for night in nights)
    found = suggest(nights, thresholds)
    if not found:
        print(
            f"{passed} nights have passed; at least {ENOUGH_NIGHTS} figures of each are needed to suggest a threshold"
        )
        return
    print(f"from {passed} nights that passed; a line can be given to --set as KEY=VALUE")
    rows = [
        (f"  {key}", f"{thresholds.base(key):.4g}", f"{figure:.4g}", str(count))
        for key, (figure, count) in found.items()
    ]
    print_table(["  key", "now", "suggested", "figures"], rows, right={1, 2, 3})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
