"""Labels, and the answers of several models, on one scale."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.records.label_config import BinaryLabel, ClassesLabel, Label
from nightly.records.label_spec import OTHER


def read_labels(column: pa.Array, label: Label, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels as in Scored, and which rows have one, bool [all rows].

    A blank label is none. A label outside `classes` is OTHER, or none if the model does not have OTHER. A number that
    is not finite is none.

    :param column: [all rows], the first value of each, null if there is none
    :param classes: the candidate's
    """
    if isinstance(label, BinaryLabel):
        known = column.is_valid()
        positives = pa.array([str(value) for value in label.positive])
        values = pc.is_in(column.cast(pa.string()), positives).cast(pa.float32())
    elif isinstance(label, ClassesLabel):
        indices = pc.index_in(column.cast(pa.string()), pa.array(classes, pa.string()))
        if OTHER in classes:
            indices = pc.if_else(column.is_valid(), indices.fill_null(classes.index(OTHER)), None)
        known, values = indices.is_valid(), indices.cast(pa.int64())
    else:
        values = column.cast(pa.float64(), safe=False)  # beyond 2**53 the nearest
        known = pc.is_finite(values).fill_null(False)
    rows = known.to_numpy(zero_copy_only=False)
    return values.filter(known).to_numpy(zero_copy_only=False), rows


def aligned(scores: np.ndarray, own: list[str], classes: list[str]) -> np.ndarray:
    """Return the probabilities [rows, own] of a model with other classes, in the order of `classes`.

    Classes are matched by name. A class that only this model knows counts as OTHER, if `classes` has that. Otherwise it
    goes to a further column: no label has it, so predicting it is wrong. A class that this model does not know has
    probability 0.
    """
    if own == classes:
        return scores
    position = {name: index for index, name in enumerate(classes)}
    elsewhere = position.get(OTHER, len(classes))
    targets = np.array([position.get(name, elsewhere) for name in own])
    columns = np.zeros((len(scores), max(len(classes), int(targets.max()) + 1)), np.float32)
    for index, target in enumerate(targets):
        columns[:, target] += scores[:, index]
    return columns
