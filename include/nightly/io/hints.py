"""Hints at the end of an error message."""

import difflib
from collections.abc import Collection


def did_you_mean(value: str, names: Collection[str], otherwise: str = "") -> str:
    """Return the end of an error message: the nearest of `names`, or else `otherwise`, or else all names."""
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {otherwise or 'valid are: ' + ', '.join(sorted(names))}"
