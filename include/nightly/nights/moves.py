"""How the shares of values changed, in a few words."""

from collections.abc import Sequence

from nightly.records.night import Contribution

ALIKE = 0.2  # a value may have been renamed if it falls by as much as another appears, within this relative tolerance


def percent(share: float) -> str:
    """Format a share as a percentage."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %".replace(".0 ", " ")


def label_change(label: str, share: float, before: float) -> str:
    """Describe how the share of a label changed."""
    return f"{percent(share)} are {label}, {percent(before)} before"


def moved(values: Sequence[Contribution]) -> str:
    """Describe how shares changed: `A fell from 17 % to 7 %, new value X at 10 %: renamed?`; "" if none did."""
    return ", ".join(_moves(values)) + (": renamed?" if renamed(values) else "")


def renamed(values: Sequence[Contribution]) -> bool:
    """Return whether a value may have been renamed: its share fell by about the share of a new value."""
    new, fell = _new(values), _fell(values)
    if not new or not fell:
        return False
    lost, gained = fell[0].control - fell[0].share, new[0].share
    return abs(lost - gained) <= ALIKE * max(lost, gained)


def _new(values: Sequence[Contribution]) -> list[Contribution]:
    return [value for value in values if value.control is None and value.rows]


def _fell(values: Sequence[Contribution]) -> list[Contribution]:
    return [value for value in values if value.control is not None and value.share < value.control]


def _moves(values: Sequence[Contribution]) -> list[str]:
    new, fell = _new(values), _fell(values)
    rose = [value for value in values if value.control is not None and value.share > value.control]
    moves = []
    if fell:
        moves.append(_gone(fell[0]) if not fell[0].rows else _changed(fell[0], "fell"))
    if new:
        moves.append(f"new value {new[0].value or '(empty)'} at {percent(new[0].share)}" + _more(new))
    elif rose:
        moves.append(_changed(rose[0], "rose"))
    return moves


def _changed(value: Contribution, how: str) -> str:
    return f"{value.value or '(empty)'} {how} from {percent(value.control)} to {percent(value.share)}"


def _gone(value: Contribution) -> str:
    return f"{value.value or '(empty)'}, {percent(value.control)} before, is gone"


def _more(values: Sequence[Contribution]) -> str:
    return f" and {len(values) - 1} more" if len(values) > 1 else ""
