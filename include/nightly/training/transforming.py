"""The transform every model shares: the model's own preprocessing_fn on its inputs, and the label beside them.

TFX's Transform runs it as `preprocessing_fn="nightly.training.transforming.preprocessing_fn"` with
`custom_config={"model": NAME}`. A model never sees its label as an input, whatever its preprocessing_fn does.
"""

from importlib import import_module
from typing import Any

import tensorflow as tf

from nightly.models import load_config

LABEL = "label"  # the transformed label, int64 [batch, 1]: 1, 0, or NOT_RECORDED
NOT_RECORDED = -1


def preprocessing_fn(inputs: dict[str, tf.SparseTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """The outputs of include/models/NAME/preprocessing.py, and LABEL. Inputs are sparse, with 0 or 1 value a row."""
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
    """int64 [batch, 1]: 1 for a value in `positive`, 0 for any other, NOT_RECORDED where there is none."""
    if column.dtype == tf.string:
        values, wanted = column.values, tf.constant(positive)
    else:
        values, wanted = tf.cast(column.values, tf.float64), tf.constant([float(v) for v in positive], tf.float64)
    hits = tf.reduce_any(values[:, tf.newaxis] == wanted, axis=1)
    return dense(tf.SparseTensor(column.indices, tf.cast(hits, tf.int64), column.dense_shape), NOT_RECORDED)


def dense(column: tf.SparseTensor, default: Any) -> tf.Tensor:
    """[batch, 1], with `default` where a row has no value."""
    one_wide = tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1])
    return tf.ensure_shape(tf.sparse.to_dense(one_wide, default), [None, 1])
