"""The features of a request, as the signature `raw_features` takes them: a tensor each, in place of tf.Example.

"" for a string, NaN for a float and MISSING_INT for an int mean missing.
"""

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2

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
    """Return the inputs of `raw_features`: a vector for each feature."""
    spec = tf_transform_output.raw_feature_spec()
    return {name: tf.TensorSpec([None], spec[name].dtype, name) for name in serving_features(schema) if name in spec}


def present(column: tf.Tensor) -> tf.SparseTensor:
    """Convert a vector to the transform's input: sparse [batch, 1], without the values that mean missing."""
    if column.dtype == tf.string:
        present = column != ""
    elif column.dtype.is_floating:
        present = ~tf.math.is_nan(column)
    else:
        present = column != MISSING_INT
    rows = tf.where(present)
    indices = tf.concat([rows, tf.zeros_like(rows)], axis=1)
    return tf.SparseTensor(indices, tf.boolean_mask(column, present), [tf.size(column, tf.int64), 1])


def request_part(record: bytes, features: dict[str, tf.TensorSpec]) -> tf.train.Example:
    """Return the example as a client sends it, with the features of serving only."""
    example = tf.train.Example.FromString(record)
    for name in example.features.feature.keys() - features.keys():
        del example.features.feature[name]
    return example


def value_of(example: tf.train.Example, name: str, missing):
    """Return the feature's value, or `missing`."""
    if name not in example.features.feature:  # a look-up would add it
        return missing
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    return values[0] if values else missing


def plain(value: bytes | int | float | None) -> str | int | float | None:
    """Return the value as JSON has it."""
    return value.decode() if isinstance(value, bytes) else value
