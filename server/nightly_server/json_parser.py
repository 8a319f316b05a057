"""Parses JSON as RapidJSON does for TensorFlow Serving, with RapidJSON's error texts.

NaN, Infinity and -Infinity are numbers. Integers beyond 64 bits become doubles.
"""

import json
import math
import re
from typing import Any

from nightly_server.errors import ServingError, invalid

try:
    import orjson
except ImportError:  # optional: it is only faster
    orjson = None

# Each escape, from the left: a surrogate pair, a lone surrogate, any other.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F])|\\.", re.DOTALL
)


def loads(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Raise ServingError (INVALID_ARGUMENT)."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if orjson is not None:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # invalid, or a number or byte order mark that orjson does not accept
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_int=_integer, parse_float=_double)
    except json.JSONDecodeError as error:
        raise _parse_error("Invalid value.", error.pos) from None
    except OverflowError as error:
        raise _parse_error("Number too big to be stored in double.", body.find(str(error).encode())) from None
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    except RecursionError:
        raise invalid("JSON Parse error: The document is nested too deeply") from None
    for escape in _ESCAPES.finditer(body):
        if escape["lone"]:
            raise _parse_error("The surrogate pair in string is invalid.", escape.start())
    return value


def _integer(digits: str) -> int | float:
    if len(digits) <= 20:  # the length of -2^63 and 2^64 - 1; int() is slow for many more
        number = int(digits)
        if -(2**63) <= number < 2**64:
            return number
    return _double(digits)


def _double(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise OverflowError(digits)
    return number


def _parse_error(problem: str, offset: int) -> ServingError:
    return invalid(f"JSON Parse error: {problem} at offset: {offset}")
