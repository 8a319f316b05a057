"""Transformed examples as batches for Keras, and the Keras inputs that take them."""

from collections.abc import Iterable

import keras
import tensorflow as tf
import tensorflow_transform as tft

from include.pipeline.modeling.transforming import LABEL

SHUFFLE_ROWS = 100_000
CACHE_BYTES = 64 * 2**20  # files up to this size on disk are read and unzipped once, and kept in memory
PARSE_ROWS = 1024  # parsing many rows at a time costs a fraction of parsing each alone


class NoRowsError(ValueError):
    """There is nothing to train on or to evaluate with; the message says where it was looked for."""


def keras_inputs(tf_transform_output: tft.TFTransformOutput) -> dict[str, keras.KerasTensor]:
    """A Keras input for each transformed feature except the label, by name."""
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
    """Endless, shuffled batches of exactly `batch_size` labelled rows: ({name: [batch, …]}, int64 [batch, 1])."""
    paths = _paths(patterns)
    records = _records(paths)
    _require_labelled(records, tf_transform_output, paths)
    if sum(tf.io.gfile.stat(path).length for path in paths) <= CACHE_BYTES:
        records = records.cache()
    records = records.shuffle(SHUFFLE_ROWS, seed=seed).repeat()
    return _labelled(records, tf_transform_output).rebatch(batch_size).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    patterns: Iterable[str], tf_transform_output: tft.TFTransformOutput, batch_size: int
) -> tf.data.Dataset:
    """Every labelled row once, in the order of the files; batches as in training, the last one shorter."""
    paths = _paths(patterns)
    records = _records(paths)
    _require_labelled(records, tf_transform_output, paths)
    return _labelled(records, tf_transform_output).rebatch(batch_size).prefetch(tf.data.AUTOTUNE)


def _labelled(records: tf.data.Dataset, tf_transform_output: tft.TFTransformOutput) -> tf.data.Dataset:
    spec = _feature_spec(tf_transform_output)

    def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        features = tf.io.parse_example(serialized, spec)
        label = features.pop(LABEL)
        recorded = label[:, 0] >= 0
        kept = {name: tf.boolean_mask(feature, recorded) for name, feature in features.items()}
        return kept, tf.boolean_mask(label, recorded)

    return records.batch(PARSE_ROWS).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def _require_labelled(records: tf.data.Dataset, tf_transform_output: tft.TFTransformOutput, paths: list[str]) -> None:
    """Repeating a dataset without rows would wait for ever."""
    for _, label in _labelled(records, tf_transform_output):
        if len(label):
            return
    raise NoRowsError(f"no row with a label in {paths}: the data gate's min_rows and min_label_share should stop this")


def _records(paths: list[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(paths, compression_type="GZIP" if paths[0].endswith(".gz") else "")


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
            "include.pipeline.modeling.transforming.preprocessing_fn, which adds it to the model's own outputs"
        )
    return spec
