"""Measure images, other bytes and long text by the sizes of their values, since the values themselves hardly repeat.

TFDV has bytes_stats for them: the mean, smallest and largest size. Beside these stand two counts in custom_stats: of
the image formats, with TFDV's name and labels, and of the size classes, each a power of two wide. TFDV's distances
compare counts of values, so `comparable` puts the size classes in the values' place.

Lists have TFDV's statistics of all values, and a third count: of the lists' lengths.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx_bsl.arrow import array_util

from nightly.schemas.features import IMAGE_FORMATS, Sized

IMAGE_FORMATS_STATISTIC = "image_format_histogram"  # TFDV's name; its check of image_domain reads it
UNKNOWN = "UNKNOWN"  # TFDV's label
CLASSES_STATISTIC = "size_classes"
LENGTHS_STATISTIC = "list_lengths"
EXACT_LENGTHS = 64  # longer lists are counted by the power of two below
UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))

Statistics = statistics_pb2.DatasetFeatureStatisticsList
Counts = Counter[tuple[str, int]]  # (format, exponent of the size) -> values; ("", length) -> lists


def stats_options(sized: Mapping[str, Sized]) -> tfdv.StatsOptions:
    """Return the options of TFDV by which the `sized` features are measured by size, on every engine."""
    if not sized:
        return tfdv.StatsOptions()
    schema = schema_pb2.Schema()
    for name in (name for name, kind in sized.items() if kind != "list"):
        schema.feature.add(name=name, type=schema_pb2.BYTES).image_domain.SetInParent()  # how TFDV knows bytes
    return tfdv.StatsOptions(schema=schema, generators=[SizeStatistics(sized)])


class SizeStatistics(stats_generator.CombinerStatsGenerator):
    """Counts the formats and the size classes of the sized features."""

    def __init__(self, sized: Mapping[str, Sized]) -> None:
        super().__init__("SizeStatistics")
        self._sized = dict(sized)

    def create_accumulator(self) -> dict[str, Counts]:
        return {}

    def add_input(self, accumulator: dict[str, Counts], input_record_batch: pa.RecordBatch) -> dict[str, Counts]:
        for name in self._sized.keys() & set(input_record_batch.schema.names):
            column = input_record_batch.column(name)
            if pa.types.is_null(column.type):
                continue
            if self._sized[name] == "list":
                accumulator.setdefault(name, Counter()).update(_lengths(column))
                continue
            values, _ = array_util.flatten_nested(column)
            if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
                accumulator.setdefault(name, Counter()).update(_counts(values, image=self._sized[name] == "image"))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, Counts]]) -> dict[str, Counts]:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for name, counts in accumulator.items():
                merged.setdefault(name, Counter()).update(counts)
        return merged

    def extract_output(self, accumulator: dict[str, Counts]) -> statistics_pb2.DatasetFeatureStatistics:
        statistics = statistics_pb2.DatasetFeatureStatistics()
        for name, counts in accumulator.items():
            feature = statistics.features.add()
            feature.path.step.append(name)
            if self._sized[name] == "list":
                histogram = feature.custom_stats.add(name=LENGTHS_STATISTIC).rank_histogram
                for (_, length), lists in sorted(counts.items()):
                    histogram.buckets.add(label=str(length), sample_count=lists)
                continue
            formats: Counter[str] = Counter()
            for (image_format, _), values in counts.items():
                formats[image_format] += values
            if self._sized[name] == "image":
                histogram = feature.custom_stats.add(name=IMAGE_FORMATS_STATISTIC).rank_histogram
                for image_format, values in sorted(formats.items()):
                    histogram.buckets.add(label=image_format, sample_count=values)
            histogram = feature.custom_stats.add(name=CLASSES_STATISTIC).rank_histogram
            for (image_format, exponent), values in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                histogram.buckets.add(label=_label(image_format, exponent), sample_count=values)
        return statistics


def comparable(statistics: Statistics) -> Statistics:
    """Return the statistics with the size classes of a sized feature as its values."""
    if not any(feature.HasField("bytes_stats") for dataset in statistics.datasets for feature in dataset.features):
        return statistics
    changed = Statistics()
    changed.CopyFrom(statistics)
    for dataset in changed.datasets:
        for feature in dataset.features:
            if feature.HasField("bytes_stats"):
                _show_classes(feature)
    return changed


def at_least(feature: statistics_pb2.FeatureNameStatistics, examples: int) -> dict[int, float]:
    """Return length -> share of the examples whose list has so many values or more, for each length there is."""
    stat = next((stat for stat in feature.custom_stats if stat.name == LENGTHS_STATISTIC), None)
    shares, lists = {}, 0.0
    for bucket in reversed(stat.rank_histogram.buckets if stat else []):
        lists += bucket.sample_count
        shares[int(bucket.label)] = lists / max(examples, 1)
    return shares


def _show_classes(feature: statistics_pb2.FeatureNameStatistics) -> None:
    common, mean = feature.bytes_stats.common_stats, feature.bytes_stats.avg_num_bytes
    shown = statistics_pb2.StringStatistics(common_stats=common, avg_length=mean)
    classes = next((stat.rank_histogram for stat in feature.custom_stats if stat.name == CLASSES_STATISTIC), None)
    if classes is not None:
        shown.rank_histogram.CopyFrom(classes)
        shown.unique = len(classes.buckets)
        for bucket in classes.buckets:
            shown.top_values.add(value=bucket.label, frequency=bucket.sample_count)
    feature.type = statistics_pb2.FeatureNameStatistics.STRING
    feature.string_stats.CopyFrom(shown)  # one of a kind: it replaces bytes_stats


def _counts(values: pa.Array, *, image: bool) -> Counts:
    sizes = pc.binary_length(values).cast(pa.int64()).to_numpy(zero_copy_only=False)
    exponents = np.frexp(sizes.astype(np.float64))[1]  # 2^(e-1) <= size < 2^e; 0 for an empty value
    if not image:
        classes, counts = np.unique(exponents, return_counts=True)
        return Counter({("", int(e)): int(count) for e, count in zip(classes, counts, strict=True)})
    formats = np.full(len(values), UNKNOWN, object)
    for name, magic in IMAGE_FORMATS.items():
        formats[pc.starts_with(values, pattern=magic).to_numpy(zero_copy_only=False)] = name
    return Counter(zip(formats.tolist(), exponents.tolist(), strict=True))


def _lengths(column: pa.Array) -> Counts:
    lengths, counts = np.unique(pc.list_value_length(column).fill_null(0).to_numpy(), return_counts=True)
    lists: Counts = Counter()
    for length, rows in zip(lengths.tolist(), counts.tolist(), strict=True):
        if length:
            lists["", length if length <= EXACT_LENGTHS else 1 << (length.bit_length() - 1)] += rows
    return lists


def _label(image_format: str, exponent: int) -> str:
    """Return a size class as text, e.g. `png, 4 to 8 KiB`; the upper end is exclusive."""
    low = 1 << (exponent - 1) if exponent else 0
    unit, name = next((unit for unit in UNITS if low >= unit[0]), UNITS[-1])
    size = f"{low // unit} to {2 * low // unit} {name}" if low > 1 else f"{low} bytes"
    return f"{image_format}, {size}" if image_format else size
