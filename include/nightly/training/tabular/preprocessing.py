"""Encode raw columns as the inputs of the default network, in training and, inside the SavedModel, in serving.

output          dtype    shape                   holds
ranks           float32  [n, numbers]            0 to 1: the share of training rows below the number
scaled          float32  [n, numbers]            about -1 to 1 for most rows, never beyond -3 to 3
missing         float32  [n, numbers]            1 where the number is missing, whose rank and scaled value are 0
categories      int64    [n, categories]         each an index of its own vocabulary
category_lists  int64    [n, lists, LIST_VALUES]  the same from 1 on, filled up with 0
texts           int64    [n, texts, WORDS]       words, from 1 on, filled up with 0
vectors         float32  [n, all dimensions]     each vector scaled as one, so that its directions stay
"""

import math

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.errors import ModelError
from nightly.training.preprocessing import padded
from nightly.training.tabular.features import Features
from nightly.training.transforming import dense

QUANTILES = 100
ERROR = 0.001  # of a quantile's rank
RARE = 3  # values with fewer training rows share the index that new values get
MAX_VALUES = 20_000  # of a vocabulary: the most frequent
MISSING = "(missing)"  # a category of its own, if it is not rare
LIST_VALUES = 32  # read of a list
WORDS = 64  # read of a text
LIMIT = 3  # of a scaled number, which outliers approach

Column = tf.Tensor | tf.SparseTensor


def encode(inputs: dict[str, Column], features: Features) -> dict[str, tf.Tensor]:
    """Return the outputs above, of those groups that `features` has. Raises ModelError for a column that is not there.

    :param inputs: sparse [n, values]; dense [n, *shape] for vectors
    """
    if absent := [name for name in features.names if name not in inputs]:
        raise ModelError(
            f"features.py names the column {absent[0]!r}, and the schema has none of this name, or it is the label or "
            "the weight: add it to schema.pbtxt, or take it out of features.py"
        )
    outputs: dict[str, tf.Tensor] = {}
    if features.numbers:
        outputs |= numbers({name: inputs[name] for name in features.numbers})
    if features.categories:
        outputs["categories"] = tf.concat([category(inputs[name], name) for name in features.categories], axis=1)
    if features.category_lists:
        lists = [category_list(inputs[name], name) for name in features.category_lists]
        outputs["category_lists"] = tf.stack(lists, axis=1)
    if features.texts:
        outputs["texts"] = tf.stack([words(inputs[name], name) for name in features.texts], axis=1)
    if features.vectors:
        outputs["vectors"] = tf.concat([vector(inputs[name]) for name in features.vectors], axis=1)
    return outputs


def vocabulary(name: str) -> str:
    """Return the name of a column's vocabulary."""
    return f"values_of_{name}"


def numbers(columns: dict[str, Column]) -> dict[str, tf.Tensor]:
    """Return ranks, scaled and missing: each float32 [n, columns]."""
    for name, column in columns.items():
        if column.dtype == tf.string:
            raise ModelError(f"{name!r} is text in schema.pbtxt: name it under categories or texts in features.py")
        if not isinstance(column, tf.SparseTensor):
            raise ModelError(f"{name!r} has a shape in schema.pbtxt: name it under vectors in features.py")
    # Joined while they are sparse: an operation for each column costs seconds to trace where there are hundreds.
    rows = next(iter(columns.values())).dense_shape[0]
    one_wide = tf.stack([rows, 1])
    joined = tf.sparse.concat(
        1, [tf.SparseTensor(c.indices, tf.cast(c.values, tf.float32), one_wide) for c in columns.values()]
    )
    matrix = tf.ensure_shape(tf.sparse.to_dense(joined, math.nan), [None, len(columns)])
    return ranked_and_scaled(matrix, quantiles(matrix))


def quantiles(values: tf.Tensor) -> tf.Tensor:
    """Return float32 [columns, QUANTILES - 1] of the training split, by one analyzer for all columns: they can be many.

    :param values: float32 [n, columns], NaN where missing, which the analyzer leaves out
    """
    finite = tf.where(tf.math.is_finite(values), values, math.nan)
    # The analyzer fails for a column without any value, so a batch without one counts as a single 0.
    nothing = tf.reduce_all(tf.math.is_nan(finite), axis=0)
    first = tf.range(tf.shape(finite)[0])[:, tf.newaxis] == 0
    finite = tf.where(first & nothing, 0.0, finite)
    return tft.quantiles(finite, QUANTILES, ERROR, reduce_instance_dims=False)


def ranked_and_scaled(values: tf.Tensor, boundaries: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return ranks, scaled and missing.

    :param values: float32 [n, columns], NaN where missing
    :param boundaries: float32 [columns, QUANTILES - 1]: the quantiles of each column
    """
    missing = tf.math.is_nan(values)
    lowest, highest = boundaries[:, 0], boundaries[:, -1]
    middle = boundaries[:, QUANTILES // 2 - 1]
    half = boundaries[:, QUANTILES * 3 // 4 - 1] - boundaries[:, QUANTILES // 4 - 1]
    unit = tf.where(half > 0, half, (highest - lowest) / 2)
    ranks = tf.where(missing, 0.0, _ranks(tf.where(missing, middle, values), boundaries))
    scaled = tf.clip_by_value(tf.math.divide_no_nan(values - middle, unit), -1e6, 1e6)
    scaled = tf.where(missing, 0.0, scaled * tf.math.rsqrt(1 + (scaled / LIMIT) ** 2))
    return {"ranks": ranks, "scaled": scaled, "missing": tf.cast(missing, tf.float32)}


def _ranks(values: tf.Tensor, boundaries: tf.Tensor) -> tf.Tensor:
    """Return where each value stands between the first and the last of its column's boundaries, from 0 to 1.

    A value that is equal to several boundaries stands in their middle.
    """
    by_column = tf.transpose(tf.clip_by_value(values, boundaries[:, 0], boundaries[:, -1]))
    last = QUANTILES - 2
    below = tf.searchsorted(boundaries, by_column, side="left")
    up_to = tf.searchsorted(boundaries, by_column, side="right")
    before = tf.maximum(below - 1, 0)
    low = tf.gather(boundaries, before, axis=1, batch_dims=1)
    high = tf.gather(boundaries, tf.minimum(below, last), axis=1, batch_dims=1)
    between = tf.cast(before, tf.float32) + tf.math.divide_no_nan(by_column - low, high - low)
    equal = tf.cast(below + up_to - 1, tf.float32) / 2
    return tf.transpose(tf.where(up_to > below, equal, between) / last)


def category(column: Column, name: str) -> tf.Tensor:
    """Return int64 [n, 1]: the value's index by frequency; new and rare values share the last."""
    texts = _single(column, _texts(column), MISSING)
    texts = tf.where(texts == "", MISSING, texts)
    return tft.compute_and_apply_vocabulary(
        texts, top_k=MAX_VALUES, frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=vocabulary(name)
    )


def category_list(column: tf.SparseTensor, name: str) -> tf.Tensor:
    """Return int64 [n, LIST_VALUES]: the indices of a list's first values, from 1 on, then 0."""
    return _numbered(column.with_values(_texts(column)), name, LIST_VALUES)


def words(column: tf.SparseTensor, name: str) -> tf.Tensor:
    """Return int64 [n, WORDS]: the indices of a text's first words, in lower case and without punctuation, then 0."""
    text = tf.strings.lower(dense(column, "")[:, 0], encoding="utf-8")
    plain = tf.strings.regex_replace(text, r"[[:punct:]]", " ")
    return _numbered(tf.strings.split(plain)[:, :WORDS].to_sparse(), name, WORDS)


def vector(column: Column) -> tf.Tensor:
    """Return float32 [n, dimensions]."""
    if isinstance(column, tf.SparseTensor):
        raise ModelError("a vector needs a shape in schema.pbtxt: see docs/how-to/features.md")
    flat = tf.reshape(tf.cast(column, tf.float32), [-1, math.prod(column.shape[1:])])
    return tft.scale_to_z_score(flat)


def _numbered(values: tf.SparseTensor, name: str, length: int) -> tf.Tensor:
    indices = tft.compute_and_apply_vocabulary(
        values, top_k=MAX_VALUES, frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=vocabulary(name)
    )
    return padded(indices.with_values(indices.values + 1), length, 0)


def _texts(column: Column) -> tf.Tensor:
    values = column.values if isinstance(column, tf.SparseTensor) else column
    return values if values.dtype == tf.string else tf.strings.as_string(values)


def _single(column: Column, values: tf.Tensor, default: float | str) -> tf.Tensor:
    """Return dense [n, 1] of a column of single values."""
    if isinstance(column, tf.SparseTensor):
        return dense(column.with_values(values), default)
    return tf.reshape(values, [-1, 1])
