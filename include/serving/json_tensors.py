"""JSON to tensors and back, as TensorFlow Serving's REST API reads and writes them.

A whole tensor is converted at once; only when that fails is it walked value by value, to say which one is wrong in the
words of TensorFlow Serving.
"""

import base64
import binascii
import json
import math
from itertools import chain
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from include.serving.errors import ServingError, invalid
from include.serving.inference import type_name

try:
    import orjson
except ImportError:  # only faster
    orjson = None

_INTEGERS = {
    tf.int32: (-(2**31), 2**31 - 1),  # int8, uint8 and int16 too: their range is not checked
    tf.int16: (-(2**31), 2**31 - 1),
    tf.int8: (-(2**31), 2**31 - 1),
    tf.uint8: (-(2**31), 2**31 - 1),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
_FLOATS = {tf.float32: 2**24 - 1, tf.float64: 2**53 - 1}  # the largest whole number that is surely exact


def parse(body: bytes) -> dict[str, Any]:
    """The request's object. NaN, Infinity and -Infinity are numbers. Raises ServingError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = _loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.pos}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise _malformed(document, "Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return document


def _loads(body: bytes) -> Any:
    if orjson is not None:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # perhaps only because of NaN or Infinity
    return json.loads(body)


def predict_inputs(document: dict[str, Any], infos: dict[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    """Tensors by input name, and whether the request has the row format. `infos`: the signature's inputs."""
    if not infos:
        raise invalid(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise _malformed(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _malformed(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise _malformed(document, "No values in 'instances' array")
        return _row_inputs(instances, infos), True
    if "inputs" in document:
        return _column_inputs(document["inputs"], infos), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _row_inputs(instances: list, infos: dict[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    objects = _is_object(instances[0])
    for position, instance in enumerate(instances):
        if objects and not _is_object(instance):
            raise invalid(f"Expecting object but got list at item {position} of input list")
        if not objects and _is_object(instance):
            raise invalid(f"Expecting value/list but got object at item {position} of input list")
        if objects and instance.keys() != infos.keys():
            for name in instance.keys() - infos.keys():
                raise _in_instance(position, name, invalid(f"JSON object: does not have named input: {name}"))
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. JSON object: {_text(instance)} keys must "
                f"be equal to: {','.join(sorted(infos))}"
            )
    if not objects:
        name = next(iter(infos))
        return {name: _column(instances, tf.as_dtype(infos[name].dtype), "")}
    return {
        name: _column([instance[name] for instance in instances], tf.as_dtype(info.dtype), name)
        for name, info in infos.items()
    }


def _column(values: list, dtype: tf.DType, key: str) -> np.ndarray:
    """One input of all instances, batched."""
    batched = _tensor_at_once(values, dtype)
    if batched is not None:
        return batched
    rows: list[np.ndarray] = []
    for position, value in enumerate(values):
        try:
            row = tensor(value, dtype)
            if rows and row.size != rows[0].size:
                raise invalid(f"Expecting tensor size: {rows[0].size} but got: {row.size}")
            if rows and row.shape != rows[0].shape:
                shapes = ["[" + ",".join(map(str, one.shape)) + "]" for one in (rows[0], row)]
                raise invalid(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
        except ServingError as error:
            raise _in_instance(position, key, error) from None
        rows.append(row)
    return np.stack(rows)


def _in_instance(position: int, key: str, error: ServingError) -> ServingError:
    named = f" key: {key}" if key else ""
    return invalid(f"Failed to process element: {position}{named} of 'instances' list. Error: {error}")


def _column_inputs(inputs: Any, infos: dict[str, Any]) -> dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        name, info = next(iter(infos.items()))
        return {name: tensor(inputs, tf.as_dtype(info.dtype))}
    tensors = {}
    for name, info in infos.items():
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = tensor(inputs[name], tf.as_dtype(info.dtype))
    return tensors


def tensor(value: Any, dtype: tf.DType) -> np.ndarray:
    """A number, string, {"b64": …} or nested list of them. Raises ServingError at the first value that does not fit."""
    array = _tensor_at_once(value, dtype)
    if array is not None:
        return array
    shape, flat = _shape(value), []
    _walk(value, 0, shape, dtype, flat)
    return _array(flat, dtype).reshape(shape)


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _tensor_at_once(value: Any, dtype: tf.DType) -> np.ndarray | None:
    """None where a list is ragged, or a value needs a second look."""
    shape, flat = _shape(value), [value]
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in flat):
            return None
        flat = list(chain.from_iterable(flat))
    types = set(map(type, flat))
    if dtype in _FLOATS:
        whole = _FLOATS[dtype]
        if not types <= {int, float}:
            return None
        if int in types and any(type(number) is int and not -whole <= number <= whole for number in flat):
            return None
        doubles = np.array(flat, dtype=np.float64)
        if dtype == tf.float64:
            return doubles.reshape(shape)
        with np.errstate(over="ignore"):
            floats = doubles.astype(np.float32)
        return floats.reshape(shape) if np.array_equal(np.isfinite(floats), np.isfinite(doubles)) else None
    if dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if not types <= {int} or (flat and not (low <= min(flat) and max(flat) <= high)):
            return None
    elif dtype == tf.bool:
        if not types <= {bool}:
            return None
    elif dtype == tf.string and types <= {str}:
        flat = [text.encode() for text in flat]
    else:
        return None
    return _array(flat, dtype).reshape(shape)


def _array(flat: list, dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array
    if dtype in _INTEGERS:
        wide = np.uint64 if dtype == tf.uint64 else np.int64
        return np.array(flat, dtype=wide).astype(dtype.as_numpy_dtype)
    return np.array(flat, dtype=dtype.as_numpy_dtype)


def _walk(value: Any, level: int, shape: list[int], dtype: tf.DType, flat: list) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_value(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for part in value:
        _walk(part, level + 1, shape, dtype, flat)


def _value(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype == tf.string and isinstance(value, dict):
        return _decode(value)
    if dtype in _FLOATS and type(value) in (int, float):
        whole = _FLOATS[dtype]
        finite = type(value) is int or math.isfinite(value)
        exact = abs(value) <= whole if type(value) is int else abs(value) <= np.finfo(dtype.as_numpy_dtype).max
        if finite and not exact:
            raise invalid(f"Cannot convert JSON value: {_text(value)} to {type_name(dtype)} without loss of precision.")
        return float(value)
    if dtype in _INTEGERS and type(value) is int and _INTEGERS[dtype][0] <= value <= _INTEGERS[dtype][1]:
        return value
    if dtype == tf.bool and type(value) is bool:
        return value
    name = type_name(dtype)
    if dtype not in _FLOATS and dtype not in _INTEGERS and dtype not in (tf.bool, tf.string):
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {_text(value)} to type: {name}")
    raise invalid(f"JSON Value: {_text(value)} Type: {_type(value)} is not of expected type: {name}")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _decode(value: dict) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


# Classify and Regress


def examples(document: dict[str, Any]) -> input_pb2.Input:
    """The tf.Examples of a classify or regress request. Raises ServingError."""
    source = input_pb2.Input()
    parsed = source.example_list.examples
    if "context" in document:
        source.example_list_with_context.context.CopyFrom(_example(document["context"]))
        parsed = source.example_list_with_context.examples
    if "examples" not in document:
        raise _malformed(document, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise _malformed(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise _malformed(document, "'examples' value is an empty array")
    parsed.extend(_example(value) for value in document["examples"])
    return source


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for one in content if isinstance(content, list) else [content]:
            kind, converted = _feature_value(name, one)
            if feature.WhichOneof("kind") not in (None, kind):
                expected = feature.WhichOneof("kind").removesuffix("_list")
                raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
            getattr(feature, kind).value.append(converted)
    return example


def _feature_value(name: str, value: Any) -> tuple[str, bytes | float | int]:
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if _is_base64(value):
        return "bytes_list", _decode(value)
    if isinstance(value, float):
        return "float_list", _value(value, tf.float32)
    if isinstance(value, int):
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", int(value)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {_type(value)}")


# Responses, laid out as TensorFlow Serving's JSON writer does


def predictions(outputs: dict[str, np.ndarray], rows: bool) -> str:
    """The response to a predict request, in the format of the request."""
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
    for one in result.classifications:
        scores = _decimals(np.array([entry.score for entry in one.classes], dtype=np.float32))
        pairs = [f"[{json.dumps(e.label)}, {score}]" for e, score in zip(one.classes, scores, strict=True)]
        items.append(f"[{', '.join(pairs)}]")
    return '{\n    "results": [' + ", ".join(items) + "\n    ]\n}"


def regressions(result: regression_pb2.RegressionResult) -> str:
    values = _decimals(np.array([regression.value for regression in result.regressions], dtype=np.float32))
    return '{\n    "results": [' + ", ".join(values) + "]\n}"


def _rows(name: str, array: np.ndarray) -> list[str]:
    """Each row of `array` on one line."""
    texts = _values(name, array)
    for size in reversed(array.shape[1:]):
        count = len(texts) // size if size else math.prod(array.shape[: array.ndim - 1])
        texts = ["[" + ", ".join(texts[i * size : (i + 1) * size]) + "]" for i in range(count)]
    return texts


def _pretty(name: str, array: np.ndarray, indent: int) -> str:
    """The whole of `array`, a line for each value."""
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
    if dtype in _FLOATS:
        return _decimals(flat)
    if dtype in _INTEGERS:
        return [str(number) for number in flat.tolist()]
    if dtype == tf.bool:
        return ["true" if value else "false" for value in flat.tolist()]
    if dtype != tf.string:
        raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype)}")
    if name.endswith("_bytes"):  # the only way for a model to say that its strings are not text
        return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in flat.tolist()]
    return [json.dumps(value.decode(errors="replace"), ensure_ascii=False) for value in flat.tolist()]


def _decimals(flat: np.ndarray) -> list[str]:
    """Six digits where they give the number back, otherwise 9 (float) or 17 (double), as TensorFlow Serving does."""
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


# Error texts


def _malformed(document: Any, problem: str) -> ServingError:
    return invalid(f"JSON Value: {_text(document)} {problem}")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return _decimals(np.array([value]))[0]
    return json.dumps(value, indent=4, ensure_ascii=False)


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")
