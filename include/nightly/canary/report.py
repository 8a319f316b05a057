"""The text of a comparison, for the command, the task's log and rendered text, and the run's note."""

from nightly.records.canary import Comparison, Look, Side

SIGNS = {"promote": "✓ PROMOTED", "stop": "! STOPPED", "wait": "… WAITING"}
PENDING = {"promote": "✓ TO BE PROMOTED", "stop": "! TO BE STOPPED"}
NEXT = "; the next run of the DAG `canary` does it"


def headline(model: str, comparison: Comparison | None, look: Look | None) -> str:
    """Return one line with the decision, whether it is carried out, and the reason."""
    if comparison is not None and comparison.decision:
        done = comparison.done_at is not None
        sign, rest = (SIGNS, "") if done else (PENDING, NEXT)
        return f"{sign[comparison.decision]}: canary {model} {comparison.version}: {comparison.why}{rest}"
    return f"{SIGNS['wait']}: canary {model} {look.canary.version}: {look.reason}" if look else f"{model} has no canary"


def report(model: str, comparison: Comparison | None, look: Look | None) -> str:
    """Return the headline, the values of the last look, and the earlier looks."""
    lines = [headline(model, comparison, look)]
    if look is None:
        return lines[0]
    lines += ["", f"{'':<22}{'canary':>14}{'production':>14}"]
    for name, value in (_ROWS | {f"mean {look.loss}": _loss}).items():
        lines.append(f"{name:<22}{value(look.canary):>14}{value(look.stable):>14}")
    if look.difference is not None:
        lines += [
            "",
            f"{'difference':<22}{look.difference:+.5f}, from {look.low:+.5f} to {look.high:+.5f} "
            f"(above 0 the canary is worse; {look.margin:g} would matter; alpha {look.alpha:g} over all looks)",
        ]
    lines.append(f"{'labels':<22}" + ", ".join(f"{count:,} from {name}" for name, count in look.labels.items()))
    if look.left_out:
        lines.append(f"{'left out':<22}" + ", ".join(f"{count:,}: {why}" for why, count in look.left_out.items()))
    lines += [f"! {warning}" for warning in look.warnings]
    earlier = [each for each in comparison.looks if each.difference is not None] if comparison else []
    if len(earlier) > 1:
        lines += ["", "looks so far"]
        lines += [
            f"  {each.at:%Y-%m-%d %H:%M}  {each.canary.labelled:>9,} labelled  {each.low:+.5f} to {each.high:+.5f}"
            for each in earlier[-14:]
        ]
    return "\n".join(lines)


_ROWS = {
    "version": lambda side: str(side.version),
    "predictions": lambda side: f"{side.logged:,}",
    "with a label": lambda side: f"{side.labelled:,}",
    "callers": lambda side: f"{side.callers:,}",
}


def _loss(side: Side) -> str:
    return "-" if side.loss is None else f"{side.loss:.5f}"
