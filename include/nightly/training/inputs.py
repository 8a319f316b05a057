"""Read transformed examples as batches for Keras, and create the matching Keras inputs."""

from collections.abc import Iterable

import keras
import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import LABEL

SHUFFLE_ROWS = 65_536  # shuffled as a block of columns; a shuffle buffer of rows costs more than all else
CACHE_BYTES = 64 * 2**20  # files up to this size in all are parsed once and cached in memory
PARSE_ROWS = 1024  # rows parsed at once; parsing each row alone costs many times more
PARSERS = 2  # blocks of PARSE_ROWS parsed at once
READY = 4  # prefetched batches

Rows = tuple[dict[str, tf.Tensor], tf.Tensor]  # features by name, and labels, int64 [rows, 1]


class NoRowsError(ValueError):
    """There are no rows to train on or to evaluate; the message names the files."""


def keras_inputs(tf_transform_output: tft.TFTransformOutput) -> dict[str, keras.KerasTensor]:
    """Return a Keras input for each transformed feature except the label, by name."""
    inputs = {}
    for name, feature in _feature_spec(tf_transform_output).items():
        if not isinstance(feature, tf.io.FixedLenFeature):
            raise ValueError(f"the transformed feature {name!r} is not dense: return a dense tensor for it")
        if name != LABEL:
            inputs[name] = keras.Input(feature.shape, dtype=feature.dtype.name, name=name)
    return inputs


def training_batches(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput, batch_size: int, seed: int
) -> tf.data.Dataset:
    """Return endless, shuffled batches of `batch_size` labelled rows: ({name: [batch, …]}, int64 [batch, 1])."""
    paths = _paths(patterns)
    rows = _rows(paths, tf_transform_output)
    _require_labelled(rows, paths)
    blocks = rows.rebatch(SHUFFLE_ROWS)
    if sum(tf.io.gfile.stat(path).length for path in paths) <= CACHE_BYTES:
        blocks = blocks.cache()

    def shuffled(number: tf.Tensor, block: Rows) -> Rows:
        order = tf.random.experimental.stateless_shuffle(_labelled(block), seed=[seed, number])
        return tf.nest.map_structure(lambda column: tf.gather(column, order), block)

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(), blocks.repeat())
    # The next block is read and shuffled while the network trains on this one.
    return numbered.map(shuffled).prefetch(1).rebatch(batch_size).prefetch(READY).with_options(_options())


def evaluation_batches(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput, batch_size: int
) -> tf.data.Dataset:
    """Return every labelled row once, in file order, as batches like those of training; the last may be shorter."""
    paths = _paths(patterns)
    rows = _rows(paths, tf_transform_output)
    _require_labelled(rows, paths)

    def labelled(*block: Rows) -> Rows:
        kept = _labelled(block)
        return tf.nest.map_structure(lambda column: tf.gather(column, kept), block)

    return rows.map(labelled).rebatch(batch_size).prefetch(READY).with_options(_options())


def _rows(paths: list[str], tf_transform_output: tft.TFTransformOutput) -> tf.data.Dataset:
    """Return every row in file order, in blocks of PARSE_ROWS."""
    spec = _feature_spec(tf_transform_output)

    def parse(serialized: tf.Tensor) -> Rows:
        features = tf.io.parse_example(serialized, spec)
        return features, features.pop(LABEL)

    records = tf.data.TFRecordDataset(paths, compression_type="GZIP" if paths[0].endswith(".gz") else "")
    return records.batch(PARSE_ROWS).map(parse, num_parallel_calls=PARSERS)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False  # its bookkeeping costs more CPU time than the reading
    options.experimental_warm_start = True  # the first block is read while Keras traces the step
    return options


def _labelled(block: Rows) -> tf.Tensor:
    """Return the indices of the rows that have a label."""
    return tf.where(block[1][:, 0] >= 0)[:, 0]


def _require_labelled(rows: tf.data.Dataset, paths: list[str]) -> None:
    """Raise NoRowsError if no row has a label: repeating an empty dataset would wait forever."""
    for block in rows:
        if len(_labelled(block)):
            return
    raise NoRowsError(f"no row with a label in {paths}: the data gate's min_rows and min_label_share should stop this")


def _paths(patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    paths = sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    if not paths:
        raise NoRowsError(f"no file matches {patterns}: did Transform materialize its examples?")
    return paths


def _feature_spec(tf_transform_output: tft.TFTransformOutput) -> dict:
    spec = tf_transform_output.transformed_feature_spec()
    if LABEL not in spec:
        raise ValueError(
            f"the transformed examples have no {LABEL!r}: Transform must run "
            "nightly.training.transforming.preprocessing_fn, which adds it to the model's own outputs"
        )
    return spec
