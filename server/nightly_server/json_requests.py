"""Parses the bodies of REST requests: predict in rows or columns, classify and regress with examples."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import input_pb2

from nightly_server import json_parser
from nightly_server.errors import ServingError, invalid
from nightly_server.json_tensors import decode, is_base64, scalar, tensor, tensor_at_once
from nightly_server.json_text import json_text, json_type, malformed
from nightly_server.limits import excerpt


def parse(body: bytes) -> dict[str, Any]:
    """Return the request's object. Raise ServingError."""
    document = json_parser.loads(body)
    if not isinstance(document, dict):
        raise malformed(document, "Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid(
            f"JSON Value: {json_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return document


def predict_inputs(document: dict[str, Any], infos: dict[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    """Return tensors by input name, and whether the request is in row format. `infos`: the signature's inputs."""
    if not infos:
        raise invalid(f"Failed to get input map for signature: {excerpt(document.get('signature_name') or 'DEFAULT')}")
    if "instances" in document and "inputs" in document:
        raise malformed(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise malformed(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise malformed(document, "No values in 'instances' array")
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
    objects, names = _is_object(instances[0]), set(infos)  # a set is faster than the proto's map
    for position, instance in enumerate(instances):
        if objects and not _is_object(instance):
            raise invalid(f"Expecting object but got list at item {position} of input list")
        if not objects and _is_object(instance):
            raise invalid(f"Expecting value/list but got object at item {position} of input list")
        if objects and instance.keys() != names:
            for name in instance.keys() - names:
                raise _in_instance(position, name, invalid(f"JSON object: does not have named input: {excerpt(name)}"))
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. JSON object: {json_text(instance)} keys "
                f"must be equal to: {','.join(sorted(infos))}"
            )
    if not objects:
        name = next(iter(infos))
        return {name: _column(instances, tf.as_dtype(infos[name].dtype), "")}
    return {
        name: _column([instance[name] for instance in instances], tf.as_dtype(info.dtype), name)
        for name, info in infos.items()
    }


def _column(values: list, dtype: tf.DType, key: str) -> np.ndarray:
    """Return one input of all instances, batched."""
    batched = tensor_at_once(values, dtype)
    if batched is not None:
        return batched
    rows: list[np.ndarray] = []
    for position, value in enumerate(values):
        try:
            row = tensor(value, dtype)
            if rows and row.size != rows[0].size:
                raise invalid(f"Expecting tensor size: {rows[0].size} but got: {row.size}")
            if rows and row.shape != rows[0].shape:
                shapes = ["[" + ",".join(map(str, array.shape)) + "]" for array in (rows[0], row)]
                raise invalid(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
        except ServingError as error:
            raise _in_instance(position, key, error) from None
        rows.append(row)
    return np.stack(rows)


def _in_instance(position: int, key: str, error: ServingError) -> ServingError:
    key_text = f" key: {excerpt(key)}" if key else ""
    return invalid(f"Failed to process element: {position}{key_text} of 'instances' list. Error: {error}")


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


def examples(document: dict[str, Any]) -> input_pb2.Input:
    """Return the tf.Examples of a classify or regress request. Raise ServingError."""
    source = input_pb2.Input()
    parsed = source.example_list.examples
    if "context" in document:
        source.example_list_with_context.context.CopyFrom(_example(document["context"]))
        parsed = source.example_list_with_context.examples
    if "examples" not in document:
        raise malformed(document, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise malformed(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise malformed(document, "'examples' value is an empty array")
    parsed.extend(_example(value) for value in document["examples"])
    return source


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            kind, converted = _feature_value(name, element)
            if feature.WhichOneof("kind") not in (None, kind):
                expected = feature.WhichOneof("kind").removesuffix("_list")
                raise invalid(f"Unexpected element type in feature: {excerpt(name)} expecting type: {expected}")
            getattr(feature, kind).value.append(converted)
    return example


def _feature_value(name: str, value: Any) -> tuple[str, bytes | float | int]:
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if is_base64(value):
        return "bytes_list", decode(value)
    if isinstance(value, float):
        return "float_list", scalar(value, tf.float32)
    if isinstance(value, int):
        if value >= 2**63:
            raise invalid(f"Feature: {excerpt(name)} has uint64 element. Only int64 is supported.")
        return "int64_list", int(value)
    raise invalid(f"Feature: {excerpt(name)} has element with unexpected JSON type: {json_type(value)}")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)
