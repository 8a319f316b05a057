"""What a data set's values tell about its features, before there is a schema that says it."""

import json

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx_bsl.arrow import array_util

from nightly.schemas.features import BYTES_TAG, Sized, image_format
from nightly.statistics.sizes import IMAGE_FORMATS_STATISTIC

SAMPLED = 200  # values looked at
LONG_TEXT = 100  # mean length in bytes from which text that hardly repeats is taken for prose
ELEMENTS = {int: "int64", float: "float", str: "string"}


def sized_of(features: pa.RecordBatch) -> dict[str, Sized]:
    """Return the features whose values are bytes of no text: `image` if each begins as an image, otherwise `bytes`.

    :param features: rows as in tf.Example
    """
    sized: dict[str, Sized] = {}
    for name, column in zip(features.schema.names, features.columns, strict=True):
        if pa.types.is_null(column.type):
            continue
        values, _ = array_util.flatten_nested(column)
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            sample = values.drop_null().slice(0, SAMPLED)
            if not _is_text(sample):
                images = all(image_format(content) for content in sample.to_pylist())
                sized[name] = "image" if images else "bytes"
    return sized


def lists_of(batch: pa.RecordBatch) -> dict[str, str]:
    """Return the columns of text whose values are JSON arrays, each with the type of its lists in a snapshot."""
    lists = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_string(column.type):
            continue
        texts = column.drop_null().slice(0, SAMPLED)
        if len(texts) and pc.all(pc.starts_with(texts, "[")).as_py() and (element := _element(texts.to_pylist())):
            lists[name] = f"list<{element}>"
    return lists


def describe(feature: schema_pb2.Feature, stats: statistics_pb2.FeatureNameStatistics, examples: int) -> None:
    """Add to an inferred feature what TFDV does not infer: vectors, images, other bytes, and long text.

    :param examples: the number of rows
    """
    common = getattr(stats, stats.WhichOneof("stats")).common_stats
    length = common.max_num_values
    if stats.type == stats.FLOAT and length > 1 and common.min_num_values == length:
        if common.num_non_missing == examples:
            feature.ClearField("value_count")
            feature.shape.dim.add(size=length)
            feature.presence.min_fraction = 1
        else:
            feature.value_count.min = feature.value_count.max = length
    if any(stat.name == IMAGE_FORMATS_STATISTIC for stat in stats.custom_stats):
        feature.image_domain.SetInParent()
    elif stats.HasField("bytes_stats"):
        feature.annotation.tag.append(BYTES_TAG)
    elif stats.HasField("string_stats") and not feature.WhichOneof("domain_info") and _is_prose(stats.string_stats):
        feature.natural_language_domain.SetInParent()


def _is_prose(stats: statistics_pb2.StringStatistics) -> bool:
    return stats.avg_length >= LONG_TEXT and 2 * stats.unique > stats.common_stats.num_non_missing


def _is_text(values: pa.Array) -> bool:
    try:
        values.cast(pa.large_string() if pa.types.is_large_binary(values.type) else pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _element(texts: list[str]) -> str | None:
    """Return the type of the elements of all lists: the widest, if all are numbers; None if they are not lists."""
    types: set[type] = set()
    for text in texts:
        try:
            values = json.loads(text)
        except ValueError:
            return None
        if not isinstance(values, list):
            return None
        types |= {type(value) for value in values}
    if types == {int, float}:
        types = {float}
    return ELEMENTS.get(types.pop()) if len(types) == 1 else None
