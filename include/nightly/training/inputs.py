"""Read transformed examples as batches for Keras, and create the matching Keras inputs."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.errors import ModelError
from nightly.training.transforming import LABEL, WEIGHT

SHUFFLE_ROWS = 65_536  # shuffled as a block of columns; a shuffle buffer of rows costs more than all else
CACHE_BYTES = 64 * 2**20  # files up to this size in all are parsed once and cached in memory
PARSE_ROWS = 1024  # rows parsed at once; parsing each row alone costs many times more
PARSERS = 2  # blocks of PARSE_ROWS parsed at once
READY = 4  # prefetched batches

# Features by name, labels [rows, 1], and weights [rows] if the data has a weight column: what Keras trains on. Labels
# are int64, or float32 if the label is a number.
Rows = tuple[dict[str, tf.Tensor], tf.Tensor] | tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]


class NoRowsError(ModelError):
    """There are no rows to train on or to evaluate; the message names the files."""


def keras_inputs(tf_transform_output: tft.TFTransformOutput) -> dict[str, keras.KerasTensor]:
    """Return a Keras input for each transformed feature except label and weight, by name."""
    inputs = {}
    for name, feature in _feature_spec(tf_transform_output).items():
        if not isinstance(feature, tf.io.FixedLenFeature):
            raise ModelError(f"the transformed feature {name!r} is not dense: return a dense tensor for it")
        if name not in (LABEL, WEIGHT):
            inputs[name] = keras.Input(feature.shape, dtype=feature.dtype.name, name=name)
    return inputs


def training_batches(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Return endless, shuffled batches of `batch_size` Rows, of those that have a label and weigh more than 0."""
    paths = _paths(patterns)
    rows = _rows(paths, _feature_spec(tf_transform_output))
    _require_usable(rows, paths)
    blocks = rows.rebatch(SHUFFLE_ROWS)
    if sum(tf.io.gfile.stat(path).length for path in paths) <= CACHE_BYTES:
        blocks = blocks.cache()

    def shuffled(number: tf.Tensor, block: Rows) -> Rows:
        order = tf.random.experimental.stateless_shuffle(_usable(*block[1:]), seed=[seed, number])
        return tf.nest.map_structure(lambda column: tf.gather(column, order), block)

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(), blocks.repeat())
    # The next block is read and shuffled while the network trains on this one.
    return numbered.map(shuffled).prefetch(1).rebatch(batch_size).prefetch(READY).with_options(_options())


def evaluation_batches(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput, batch_size: int
) -> tf.data.Dataset:
    """Return every row of training_batches' kind once, in file order; the last batch may be shorter."""
    paths = _paths(patterns)
    rows = _rows(paths, _feature_spec(tf_transform_output))
    _require_usable(rows, paths)

    def usable(*block: Rows) -> Rows:
        kept = _usable(*block[1:])
        return tf.nest.map_structure(lambda column: tf.gather(column, kept), block)

    return rows.map(usable).rebatch(batch_size).prefetch(READY).with_options(_options())


def labels_and_weights(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labels and weights, [rows] each, of all rows that are trained on, in file order.

    Without a weight column every row weighs 1. No other feature is parsed. Raises NoRowsError if there are no rows.
    """
    paths = _paths(patterns)
    spec = {name: feature for name, feature in _feature_spec(tf_transform_output).items() if name in (LABEL, WEIGHT)}
    empty = True
    for _, *block in _rows(paths, spec).prefetch(READY).with_options(_options()):
        kept = _usable(*block).numpy()
        labels, *weights = (column.numpy().reshape(-1)[kept] for column in block)
        empty = empty and not len(labels)
        yield labels, weights[0] if weights else np.ones(len(labels), np.float32)
    if empty:
        raise _no_rows(paths)


def _rows(paths: list[str], spec: dict[str, tf.io.FixedLenFeature]) -> tf.data.Dataset:
    """Return the features of `spec` of every row in file order, in blocks of PARSE_ROWS."""

    def parse(serialized: tf.Tensor) -> Rows:
        features = tf.io.parse_example(serialized, spec)
        labels = features.pop(LABEL)
        return (features, labels, features.pop(WEIGHT)[:, 0]) if WEIGHT in features else (features, labels)

    records = tf.data.TFRecordDataset(paths, compression_type="GZIP" if paths[0].endswith(".gz") else "")
    return records.batch(PARSE_ROWS).map(parse, num_parallel_calls=PARSERS)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False  # its bookkeeping costs more CPU time than the reading
    options.experimental_warm_start = True  # the first block is read while Keras traces the step
    return options


def _usable(labels: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Return the indices of the rows that have a label, and a weight above 0."""
    labels = labels[:, 0]
    usable = ~tf.math.is_nan(labels) if labels.dtype.is_floating else labels >= 0
    # A weight of 0 would still take the row's place in a batch, and so make the step smaller.
    return tf.where(usable if weights is None else usable & (weights > 0))[:, 0]


def _require_usable(rows: tf.data.Dataset, paths: list[str]) -> None:
    """Raise NoRowsError if there is no row to use: repeating an empty dataset would wait forever."""
    for _, *block in rows:
        if len(_usable(*block)):
            return
    raise _no_rows(paths)


def _no_rows(paths: list[str]) -> NoRowsError:
    return NoRowsError(
        f"no row with a label in {paths}, or all weigh 0: the data gate's min_rows and min_label_share should stop this"
    )


def _paths(patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    paths = sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    if not paths:
        raise NoRowsError(f"no file matches {patterns}: did Transform materialize its examples?")
    return paths


def _feature_spec(tf_transform_output: tft.TFTransformOutput) -> dict:
    spec = tf_transform_output.transformed_feature_spec()
    if LABEL not in spec:
        raise ModelError(
            f"the transformed examples have no {LABEL!r}: Transform must run "
            "nightly.training.transforming.preprocessing_fn, which adds it to the model's own outputs"
        )
    return spec
