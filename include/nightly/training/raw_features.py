"""The features of a request, as the signature `raw_features` takes them: a tensor each, in place of tf.Example.

    in the schema            tensor            missing
    a value                  [n]               "" for a string, NaN for a float, MISSING_INT for an int
    a list (value_count)     [n, k]            the same; rows with fewer than k values are filled up with it
    a vector (shape)         [n, *shape]       it must be there
    bytes, such as an image  [n], string       ""; in JSON {"b64": …}

TensorFlow Serving's REST API takes dense tensors only, so a client fills up the lists of a request to the same length.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.schemas.features import is_list

Parsed = tf.io.FixedLenFeature | tf.io.VarLenFeature  # how a feature is parsed, as the transform reads it

SERVING = "SERVING"  # the schema's environment without the label
MISSING_INT = tf.int64.min
MISSING = {tf.string: b"", tf.float32: float("nan"), tf.int64: MISSING_INT}


def serving_features(schema: schema_pb2.Schema) -> list[str]:
    """Return the names of the features in a request: those of the SERVING environment."""
    names = []
    for feature in schema.feature:
        environments = set(feature.in_environment) | set(schema.default_environment) - set(feature.not_in_environment)
        if SERVING in environments:
            names.append(feature.name)
    return names


def raw_feature_specs(
    tf_transform_output: tft.TFTransformOutput, schema: schema_pb2.Schema
) -> dict[str, tf.TensorSpec]:
    """Return the inputs of `raw_features`."""
    spec = tf_transform_output.raw_feature_spec()
    lists = {feature.name for feature in schema.feature if is_list(feature)}
    specs = {}
    for name in serving_features(schema):
        if name in spec:
            shape = spec[name].shape if _is_dense(spec[name]) else [None] if name in lists else []
            specs[name] = tf.TensorSpec([None, *shape], spec[name].dtype, name)
    return specs


def transform_specs(parsed: dict[str, Parsed]) -> dict[str, tf.TensorSpec | tf.SparseTensorSpec]:
    """Return the transform's inputs: dense for vectors, otherwise sparse."""
    return {
        name: tf.TensorSpec([None, *feature.shape], feature.dtype)
        if _is_dense(feature)
        else tf.SparseTensorSpec([None, None], feature.dtype)
        for name, feature in parsed.items()
    }


def transform_inputs(features: dict[str, tf.Tensor], parsed: dict[str, Parsed]) -> dict[str, Any]:
    """Convert the inputs of `raw_features` to those of the transform."""
    return {name: _present(value, parsed[name]) for name, value in features.items()}


def _present(column: tf.Tensor, parsed: Parsed) -> tf.Tensor | tf.SparseTensor:
    """Return sparse [n, k] without the values that mean missing.

    A list's values move together where one is missing. A vector stays as it is.
    """
    if _is_dense(parsed):
        return column
    column = column[:, tf.newaxis] if column.shape.rank == 1 else column
    if column.dtype == tf.string:
        there = column != ""
    elif column.dtype.is_floating:
        there = ~tf.math.is_nan(column)
    else:
        there = column != MISSING_INT
    positions = tf.cumsum(tf.cast(there, tf.int64), axis=1, exclusive=True)
    indices = tf.stack([tf.where(there)[:, 0], tf.boolean_mask(positions, there)], axis=1)
    return tf.SparseTensor(indices, tf.boolean_mask(column, there), tf.shape(column, tf.int64))


def request_part(record: bytes, features: dict[str, tf.TensorSpec]) -> tf.train.Example:
    """Return the example as a client sends it, with the features of serving only."""
    example = tf.train.Example.FromString(record)
    for name in example.features.feature.keys() - features.keys():
        del example.features.feature[name]
    return example


def json_value(example: tf.train.Example, name: str, spec: tf.TensorSpec) -> Any:
    """Return the feature as JSON has it: a value, a list, nested lists of the vector's shape, or None if missing.

    Bytes that are no text are {"b64": …}.
    """
    values = [_json(value) for value in _values(example, name)]
    if spec.shape.rank == 1:
        return values[0] if values else None
    if spec.shape.rank == 2 or not values:
        return values or None
    return np.reshape(np.array(values, object), spec.shape[1:]).tolist()


def request_tensor(examples: Sequence[tf.train.Example], name: str, spec: tf.TensorSpec) -> np.ndarray:
    """Return the feature of the examples as a request has it: the spec's shape, filled up with what means missing."""
    rows = [_values(example, name) for example in examples]
    width = 1 if spec.shape.rank == 1 else max(1, *map(len, rows))
    filled = [[*row, *[MISSING[spec.dtype]] * (width - len(row))] for row in rows]
    shape = [size or width for size in spec.shape[1:]]
    return np.array(filled, spec.dtype.as_numpy_dtype).reshape([len(rows), *shape])


def _values(example: tf.train.Example, name: str) -> list:
    if name not in example.features.feature:  # a look-up would add it
        return []
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def _json(value: bytes | int | float) -> dict[str, str] | str | int | float:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _is_dense(parsed: Parsed) -> bool:
    return isinstance(parsed, tf.io.FixedLenFeature)
