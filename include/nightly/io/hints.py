"""Hints at the end of an error message."""

import difflib
from collections.abc import Collection

MOST_NAMES = 20  # a table may have hundreds of columns


def did_you_mean(value: str, names: Collection[str], otherwise: str = "") -> str:
    """Return the end of an error message: the nearest of `names`, or else `otherwise`, or else the names."""
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {otherwise or 'valid are: ' + _listed(names)}"


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES:,} more"
