"""Writes the bodies of REST responses, in the layout of TensorFlow Serving's JSON writer."""

import base64
import json
import math

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, regression_pb2

from nightly_server.dtypes import FLOATS, INTEGERS, type_name
from nightly_server.errors import invalid
from nightly_server.json_text import decimals


def predictions(outputs: dict[str, np.ndarray], rows: bool) -> str:
    """Return the response to a predict request, in the format of the request."""
    names = sorted(outputs)
    if not rows:
        if len(names) == 1:
            return '{\n    "outputs": ' + _pretty(names[0], outputs[names[0]], 4) + "\n}"
        members = [f"        {json.dumps(name)}: {_pretty(name, outputs[name], 8)}" for name in names]
        return '{\n    "outputs": {\n' + ",\n".join(members) + "\n    }\n}"
    sizes = {}
    for name in names:
        if outputs[name].ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes[name] = len(outputs[name])
        if sizes[name] != sizes[names[0]]:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {sizes[name]} expecting: {sizes[names[0]]}"
            )
    columns = [_rows(name, outputs[name]) for name in names]
    if len(names) == 1:
        return '{\n    "predictions": [' + ", ".join(columns[0]) + "\n    ]\n}"
    keys = [json.dumps(name) for name in names]
    instances = []
    for row in zip(*columns, strict=True):
        members = [f"            {key}: {text}" for key, text in zip(keys, row, strict=True)]
        instances.append("\n        {\n" + ",\n".join(members) + "\n        }")
    return '{\n    "predictions": [' + ",".join(instances) + "\n    ]\n}"


def classifications(result: classification_pb2.ClassificationResult) -> str:
    items = []
    for classification in result.classifications:
        classes = classification.classes
        scores = decimals(np.array([entry.score for entry in classes], dtype=np.float32))
        pairs = [f"[{json.dumps(entry.label)}, {score}]" for entry, score in zip(classes, scores, strict=True)]
        items.append(f"[{', '.join(pairs)}]")
    return '{\n    "results": [' + ", ".join(items) + "\n    ]\n}"


def regressions(result: regression_pb2.RegressionResult) -> str:
    values = decimals(np.array([regression.value for regression in result.regressions], dtype=np.float32))
    return '{\n    "results": [' + ", ".join(values) + "]\n}"


def _rows(name: str, array: np.ndarray) -> list[str]:
    """Return each row of `array` on one line."""
    texts = _values(name, array)
    for size in reversed(array.shape[1:]):
        count = len(texts) // size if size else math.prod(array.shape[: array.ndim - 1])
        texts = ["[" + ", ".join(texts[i * size : (i + 1) * size]) + "]" for i in range(count)]
    return texts


def _pretty(name: str, array: np.ndarray, indent: int) -> str:
    """Return the whole of `array`, with a line for each value."""
    texts = iter(_values(name, array))

    def nested(shape: tuple[int, ...], indent: int) -> str:
        if not shape:
            return next(texts)
        if not shape[0]:
            return "[]"
        pad = "\n" + " " * (indent + 4)
        parts = [pad + nested(shape[1:], indent + 4) for _ in range(shape[0])]
        return "[" + ",".join(parts) + "\n" + " " * indent + "]"

    return nested(array.shape, indent)


def _values(name: str, array: np.ndarray) -> list[str]:
    dtype, flat = tf.as_dtype(array.dtype), array.ravel()
    if dtype in FLOATS:
        return decimals(flat)
    if dtype in INTEGERS:
        return [str(number) for number in flat.tolist()]
    if dtype == tf.bool:
        return ["true" if value else "false" for value in flat.tolist()]
    if dtype != tf.string:
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype)}")
    if name.endswith("_bytes"):  # the convention for outputs that are bytes, not text
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat.tolist()]
    return [json.dumps(value.decode(errors="replace"), ensure_ascii=False) for value in flat.tolist()]
