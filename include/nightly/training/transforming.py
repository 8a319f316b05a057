"""The transform of every model: the model's own preprocessing_fn on the inputs, plus the label and the weight.

TFX's Transform runs it as `preprocessing_fn="nightly.training.transforming.preprocessing_fn"` with
`custom_config={"model": NAME}`, to which the Transform nodes add `"schema"`, the path of the night's schema file. The
model's preprocessing_fn gets neither label nor weight, so they cannot leak into the inputs.
"""

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import analyzers as tft_analyzers

from nightly.models import load_config
from nightly.records.columns import CuratedSchema
from nightly.records.label_config import BinaryLabel, ClassesLabel, Label, NumberLabel
from nightly.records.label_spec import OTHER
from nightly.training.errors import ModelError

LABEL = "label"  # the transformed label, [batch, 1]
WEIGHT = "weight"  # float32 [batch, 1], if there is a data.weight_column
KEYS = {LABEL: "data.label.column", WEIGHT: "data.weight_column"}
NOT_RECORDED = -1  # of a label that is a number: NaN
VOCABULARY = "label_classes"  # TFT's vocabulary of learned classes, without OTHER


def preprocessing_fn(inputs: dict[str, tf.SparseTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Return the outputs of include/models/NAME/preprocessing.py, LABEL, and WEIGHT if rows are weighted.

    :param inputs: sparse tensors; label and weight have 0 or 1 value a row
    """
    config = load_config(custom_config["model"])
    columns = {LABEL: config.data.label.column}
    if config.data.weight_column:
        columns[WEIGHT] = config.data.weight_column
    for role, column in columns.items():
        if column not in inputs:
            raise ModelError(
                f"the {role} {column!r} is not in the schema of model {config.name!r}: add it to "
                f"{config.folder / 'schema.pbtxt'} or change {KEYS[role]} in config.toml"
            )
    module = import_module(f"include.models.{config.name}.preprocessing")
    features = {name: value for name, value in inputs.items() if name not in columns.values()}
    outputs = dict(module.preprocessing_fn(features))
    for role in KEYS:
        if role in outputs:
            raise ModelError(
                f"{module.__file__}: {role!r} is the name of the transformed {role}; give the output another"
            )
    classes = listed_classes(config.data.label, custom_config.get("schema"))
    outputs[LABEL] = transformed_label(inputs[columns[LABEL]], config.data.label, classes)
    if WEIGHT in columns:
        weights = inputs[columns[WEIGHT]]
        outputs[WEIGHT] = dense(tf.sparse.map_values(tf.cast, weights, tf.float32), 0.0)
    return outputs


def transformed_label(column: tf.SparseTensor, label: Label, classes: Sequence[str] = ()) -> tf.Tensor:
    """Return the transformed label, [batch, 1].

    binary: int64, 1 for a positive value, 0 for any other, NOT_RECORDED for a missing one. classes: int64, the index of
    the class, NOT_RECORDED for a missing one and for a value that the curated schema does not list. number: float32,
    NaN for a missing one.

    :param classes: those of the curated schema, unless they are learned
    """
    if isinstance(label, BinaryLabel):
        return label_of(column, label.positive)
    if isinstance(label, NumberLabel):
        numbers = tf.cast(column.values, tf.float64)
        numbers = tf.math.log1p(numbers) if label.transform == "log1p" else numbers
        return dense(column.with_values(tf.cast(numbers, tf.float32)), math.nan)
    names = column.values if column.dtype == tf.string else tf.strings.as_string(column.values)
    indices = _learned(names, label.min_class_rows) if label.classes == "learned" else _listed(names, classes)
    return dense(column.with_values(indices), NOT_RECORDED)


def label_of(column: tf.SparseTensor, positive: list[str]) -> tf.Tensor:
    """Return int64 [batch, 1]: 1 for a value in `positive`, 0 for any other, NOT_RECORDED for a missing one."""
    if column.dtype == tf.string:
        values, positives = column.values, tf.constant(positive)
    else:
        values, positives = tf.cast(column.values, tf.float64), tf.constant([float(v) for v in positive], tf.float64)
    hits = tf.reduce_any(values[:, tf.newaxis] == positives, axis=1)
    return dense(tf.SparseTensor(column.indices, tf.cast(hits, tf.int64), column.dense_shape), NOT_RECORDED)


def listed_classes(label: Label, schema: str | Path | None) -> list[str]:
    """Return the label's classes if the schema file lists them, else [].

    Raises ModelError if it lists fewer than two, or if there is no file.
    """
    if not isinstance(label, ClassesLabel) or label.classes == "learned":
        return []
    if schema is None:
        raise ModelError(f"the classes of {label.column!r} are in the schema, and custom_config names no schema file")
    classes = CuratedSchema(Path(schema), Path(schema).read_text()).classes(label.column)
    if len(classes) < 2:
        raise ModelError(
            f"{schema} lists {len(classes)} classes of {label.column!r}, and a model needs two or more: give the label "
            'a string_domain, or an int_domain with min and max; or set data.label.classes = "learned"'
        )
    return classes


def _listed(names: tf.Tensor, classes: Sequence[str]) -> tf.Tensor:
    """Return the index of each name in `classes`, NOT_RECORDED if it is not there."""

    def table() -> tf.lookup.StaticHashTable:
        indices = tf.lookup.KeyValueTensorInitializer(list(classes), range(len(classes)), tf.string, tf.int64)
        return tf.lookup.StaticHashTable(indices, NOT_RECORDED)

    return tft.make_and_track_object(table).lookup(names)


def _learned(names: tf.Tensor, min_rows: int) -> tf.Tensor:
    """Return the index of each name in the vocabulary of the analyzed split; that of OTHER follows the last."""
    names = tf.where(names == OTHER, "", names)  # no vocabulary has "", so a class of this name is OTHER too
    return tft.compute_and_apply_vocabulary(
        names, frequency_threshold=min_rows, num_oov_buckets=1, vocab_filename=VOCABULARY
    )


def learned_classes(tf_transform_output: tft.TFTransformOutput) -> list[str]:
    """Return the learned classes in the order of their indices."""
    _, empty = tft_analyzers.get_empy_vocabulary_dummy_value(tf.string)  # the only entry of an empty vocabulary
    names = tf_transform_output.vocabulary_by_name(VOCABULARY)
    return [*(name.decode(errors="replace") for name in names if name != empty), OTHER]


def dense(column: tf.SparseTensor, default: Any) -> tf.Tensor:
    """Return a dense [batch, 1], with `default` for rows without a value."""
    column_vector = tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1])
    return tf.ensure_shape(tf.sparse.to_dense(column_vector, default), [None, 1])
