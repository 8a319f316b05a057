"""The transform of every model: the model's own preprocessing_fn on the inputs, plus the label.

TFX's Transform runs it as `preprocessing_fn="nightly.training.transforming.preprocessing_fn"` with
`custom_config={"model": NAME}`. The model's preprocessing_fn never gets the label, so it cannot leak into the inputs.
"""

from importlib import import_module
from typing import Any

import tensorflow as tf

from nightly.models import load_config

LABEL = "label"  # the transformed label, int64 [batch, 1]: 1, 0, or NOT_RECORDED
NOT_RECORDED = -1


def preprocessing_fn(inputs: dict[str, tf.SparseTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return the outputs of include/models/NAME/preprocessing.py, and LABEL.

    :param inputs: sparse tensors with 0 or 1 value a row
    """
    config = load_config(custom_config["model"])
    column = config.data.label.column
    if column not in inputs:
        raise ValueError(
            f"the label {column!r} is not in the schema of model {config.name!r}: add it to "
            f"{config.folder / 'schema.pbtxt'} or change data.label.column in config.toml"
        )
    module = import_module(f"include.models.{config.name}.preprocessing")
    outputs = dict(module.preprocessing_fn({name: value for name, value in inputs.items() if name != column}))
    if LABEL in outputs:
        raise ValueError(f"{module.__file__}: {LABEL!r} is the name of the transformed label; give the output another")
    return outputs | {LABEL: label_of(inputs[column], config.data.label.positive)}


def label_of(column: tf.SparseTensor, positive: list[str]) -> tf.Tensor:
    """Return int64 [batch, 1]: 1 for a value in `positive`, 0 for any other, NOT_RECORDED for a missing one."""
    if column.dtype == tf.string:
        values, positives = column.values, tf.constant(positive)
    else:
        values, positives = tf.cast(column.values, tf.float64), tf.constant([float(v) for v in positive], tf.float64)
    hits = tf.reduce_any(values[:, tf.newaxis] == positives, axis=1)
    return dense(tf.SparseTensor(column.indices, tf.cast(hits, tf.int64), column.dense_shape), NOT_RECORDED)


def dense(column: tf.SparseTensor, default: Any) -> tf.Tensor:
    """Return a dense [batch, 1], with `default` for rows without a value."""
    column_vector = tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1])
    return tf.ensure_shape(tf.sparse.to_dense(column_vector, default), [None, 1])
