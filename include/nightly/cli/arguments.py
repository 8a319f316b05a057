"""The numbers of the command lines: types for argparse that refuse what makes no sense, in a sentence."""

import argparse
import math


def positive_int(text: str) -> int:
    """Return a whole number from 1 on."""
    return _whole(text, 1, None)


def port(text: str) -> int:
    """Return a TCP port that can be named: 1 to 65535."""
    return _whole(text, 1, 65_535)


def positive_number(text: str) -> float:
    """Return a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _whole(text: str, least: int, most: int | None) -> int:
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, {wanted}")
    return number
