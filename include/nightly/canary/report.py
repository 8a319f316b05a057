"""The text of a comparison, for the command, the task's log and rendered text, and the run's note."""

from nightly.io.tables import aligned
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
    rows = (_ROWS | {f"mean {look.loss}": _loss}).items()
    sides = [(name, value(look.canary), value(look.stable)) for name, value in rows]
    lines += ["", *aligned([("", "canary", "production"), *sides], right=(1, 2))]
    lines += ["", *aligned(_facts(look))]
    lines += [f"! {warning}" for warning in look.warnings]
    earlier = [each for each in comparison.looks if each.difference is not None] if comparison else []
    if len(earlier) > 1:
        looks = [
            (f"  {each.at:%Y-%m-%d %H:%M}", f"{each.canary.labelled:,}", f"{each.low:+.5f} to {each.high:+.5f}")
            for each in earlier[-14:]
        ]
        lines += ["", "looks so far", *aligned([("", "labelled", "difference"), *looks], right=(1,))]
    return "\n".join(lines)


def _facts(look: Look) -> list[tuple[str, str]]:
    facts = [("labels", ", ".join(f"{count:,} from {name}" for name, count in look.labels.items()))]
    if look.difference is not None:
        interval = f"{look.difference:+.5f}, from {look.low:+.5f} to {look.high:+.5f}"
        scale = f"above 0 the canary is worse; {look.margin:g} would matter; alpha {look.alpha:g} over all looks"
        facts.insert(0, ("difference", f"{interval} ({scale})"))
    if look.left_out:
        facts.append(("left out", ", ".join(f"{count:,}: {why}" for why, count in look.left_out.items())))
    return facts


_ROWS = {
    "version": lambda side: str(side.version),
    "predictions": lambda side: f"{side.logged:,}",
    "with a label": lambda side: f"{side.labelled:,}",
    "callers": lambda side: f"{side.callers:,}",
}


def _loss(side: Side) -> str:
    return "-" if side.loss is None else f"{side.loss:.5f}"
