"""Replay proposed thresholds over the past nights' findings, without measuring anything again:

    bin/replay MODEL [--set data_gate.min_rows=2000 --set drift.payment_type=0.03 …]
    bin/replay MODEL --suggest

Without --set it replays the thresholds of today's config and schema. --suggest prints thresholds that the nights
that passed would also have passed, with a margin. Both change nothing.
"""

import argparse
import sys
import tomllib
from collections.abc import Sequence

from nightly.cli.errors import Parser, command
from nightly.io.tables import print_table
from nightly.nights.history import NightFindings, findings
from nightly.nights.replay import ENOUGH_NIGHTS, Thresholds, is_number, replay, suggest
from nightly.records.base import ContractError
from nightly.records.night import Reason
from nightly.state import current


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/replay", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a proposed threshold")
    parser.add_argument("--suggest", action="store_true", help="thresholds calibrated on the nights that passed")
    return parser


@command("bin/replay")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    proposed = dict(_setting(text) for text in options.set)
    with current().session(options.model) as paths:
        thresholds = Thresholds.of(options.model, proposed)
        nights = findings(paths, options.model)
    if not nights:
        print(f"{options.model} has no nights yet that its data gate has judged")
    elif options.suggest:
        _print_suggestions(nights, thresholds)
    else:
        _print_replay(nights, replay(nights, thresholds))
    return 0


def _setting(text: str) -> tuple[str, float]:
    """Parse KEY=NUMBER, with the number in TOML's syntax."""
    key, equals, value = text.partition("=")
    try:
        number = tomllib.loads(f"value = {value}")["value"] if equals else None
    except tomllib.TOMLDecodeError:
        number = None
    if not is_number(number) or isinstance(number, bool):
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
            value = f"{reason.figure:.4g}" if is_number(reason.figure) else reason.figure
            print(f"    {reason.check} {reason.subject}{against}: {value}".rstrip())


def _print_suggestions(nights: list[NightFindings], thresholds: Thresholds) -> None:
    passed = sum(night.result.passed for night in nights)
    suggestions = suggest(nights, thresholds)
    if not suggestions:
        print(f"{passed} nights have passed; a suggestion needs at least {ENOUGH_NIGHTS} values of a threshold")
        return
    print(f"from {passed} nights that passed; try a suggestion with --set KEY=VALUE")
    rows = [
        (f"  {key}", f"{thresholds.base(key):.4g}", f"{value:.4g}", str(count))
        for key, (value, count) in suggestions.items()
    ]
    print_table(["  key", "now", "suggested", "values"], rows, right={1, 2, 3})


if __name__ == "__main__":
    sys.exit(main())
