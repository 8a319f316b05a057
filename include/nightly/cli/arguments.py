"""Number types for argparse, which refuse an invalid value in one sentence."""

import argparse
import math


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole(text, 1, None)


def port(text: str) -> int:
    """Parse a TCP port: 1 to 65535."""
    return _whole(text, 1, 65_535)


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _whole(text: str, least: int, most: int | None) -> int:
    allowed = f"{least} or more" if most is None else f"{least} to {most}"
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number: give {allowed}")
    return number
