"""What a model's label is, and what the labels of its training split are: the LabelSpec of label.json."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow_transform as tft

from nightly.records.label_config import ClassesLabel, Label
from nightly.records.label_spec import LabelSpec
from nightly.training.errors import ModelError
from nightly.training.inputs import labels_and_weights
from nightly.training.transforming import learned_classes, listed_classes

QUANTILES = 101  # 0 %, 1 %, … 100 %


def classes_of(label: Label, schema: Path, tf_transform_output: tft.TFTransformOutput) -> list[str]:
    """Return the label's classes in the order of their indices, [] if it has none.

    Raises ModelError if no value is frequent enough to be learned.

    :param schema: the night's schema file
    """
    if not (isinstance(label, ClassesLabel) and label.classes == "learned"):
        return listed_classes(label, schema)
    classes = learned_classes(tf_transform_output)
    if len(classes) < 2:
        raise ModelError(
            f"no value of {label.column!r} has {label.min_class_rows} rows in the train split, so no class can be "
            "learned: lower data.label.min_class_rows, or use more days"
        )
    return classes


def label_spec(
    label: Label, classes: list[str], patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput
) -> LabelSpec:
    """Return the label's spec, with what one pass over the transformed rows of the file patterns gives.

    Only rows that are trained on count. The constant is weighted; the quantiles are not. The labels of a number are
    held in memory, 4 bytes a row. Raises NoRowsError.
    """
    spec = LabelSpec.of(label, classes)
    blocks = labels_and_weights(patterns, tf_transform_output)
    return _with_number(spec, blocks) if spec.kind == "number" else _with_shares(spec, blocks)


def _with_shares(spec: LabelSpec, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> LabelSpec:
    """Return the spec with the share of positives, or of each class."""
    weights, rows = np.zeros(len(spec.classes) or 2), 0
    for labels, weight in blocks:
        weights += np.bincount(labels, weight, minlength=len(weights))
        rows += len(labels)
    shares = (weights / weights.sum()).tolist()
    return spec.model_copy(update={"constant": shares if spec.classes else shares[1:], "rows": rows})


def _with_number(spec: LabelSpec, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> LabelSpec:
    """Return the spec with the mean of the transformed labels, and the quantiles of the labels."""
    parts, total, weights = [], 0.0, 0.0
    for labels, weight in blocks:
        parts.append(labels)
        total += float(np.dot(labels, weight.astype(np.float64)))
        weights += float(weight.sum(dtype=np.float64))
    labels = np.concatenate(parts)
    quantiles = np.quantile(labels, np.linspace(0, 1, QUANTILES))
    # A label of 0.1 is 0.10000000149 as a float32. Its quantile is 0.1 again, because many rows can have one label, and
    # a distribution function jumps there. The logarithm leaves six digits.
    plain = [f"{value:.6g}" for value in np.expm1(quantiles)] if spec.transform == "log1p" else quantiles.astype("f4")
    return spec.model_copy(
        update={"constant": [total / weights], "quantiles": [float(str(value)) for value in plain], "rows": len(labels)}
    )
