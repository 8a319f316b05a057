"""Numbers and JSON values as TensorFlow Serving writes them in responses and errors."""

import json
from typing import Any

import numpy as np

from nightly_server.errors import ServingError, invalid
from nightly_server.limits import QUOTED_BYTES, excerpt

_ENCODER = json.JSONEncoder(indent=4, ensure_ascii=False)


def decimals(flat: np.ndarray) -> list[str]:
    """Return numbers with 6 digits if that is exact, otherwise 9 (float) or 17 (double), as TensorFlow Serving does."""
    numbers = flat.tolist()
    texts = [f"{number:g}" for number in numbers]
    with np.errstate(over="ignore"):
        same = np.array([float(text) for text in texts]).astype(flat.dtype) == flat
    digits = 9 if flat.dtype == np.float32 else 17
    return [
        _decimal(text if exact else f"{number:.{digits}g}")
        for number, text, exact in zip(numbers, texts, same.tolist(), strict=True)
    ]


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _decimal(text: str) -> str:
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    return text if "." in text or "e" in text else text + ".0"


def malformed(document: Any, problem: str) -> ServingError:
    """Return the error for a request with valid JSON of the wrong structure."""
    return invalid(f"JSON Value: {json_text(document)} {problem}")


def json_text(value: Any) -> str:
    """Return a value's JSON for an error; only the beginning if it is long."""
    if isinstance(value, float):
        return decimals(np.array([value]))[0]
    text = ""
    for part in _ENCODER.iterencode(value):  # encodes no more than needed
        text += part[: QUOTED_BYTES + 1]
        if len(text) > QUOTED_BYTES:
            break
    return excerpt(text)


def json_type(value: Any) -> str:
    """Return RapidJSON's name of the value's type."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")
