"""Exact counts of text values for TFDV's statistics, in bounded memory.

TFDV counts values exactly on Beam only. In memory it estimates them by sketches, which are far off for a feature with
many values, such as free text. Here a feature's counts are Arrow columns. Beyond a bound they are partitioned into
files by the value's hash, so each file can be summed alone, or divided again if it is large.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_data_validation as tfdv
from tensorflow_data_validation import types
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl.arrow import array_util

from nightly.compat.tfdv import (
    FeatureValueCount,
    enumerate_arrays,
    get_bytes_features,
    get_feature_type_from_arrow_type,
    make_feature_stats_proto_topk_uniques,
)
from nightly.io.prefetch import prefetch

MAX_VALUES = 200_000  # of a feature in memory; more go to files
MAX_BYTES = 32 << 20  # of these values in memory, and of a file that is summed in memory
FILES = 32
DIGITS = 4  # of a value's hash: how often a file is divided at most, as a single value's counts stay together
SCHEMA = pa.schema([("value", pa.large_binary()), ("count", pa.int64())])
LARGEST_FIRST = [("count", "descending"), ("value", "descending")]


class ValueCounts:
    """The number of occurrences of each value of a feature."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[pa.Array] = []  # not counted yet; counting many values at once is several times faster
        self._counted = SCHEMA.empty_table()
        self._files: Files | None = None
        self.bytes = 0  # of all values so far

    def add(self, values: pa.Array) -> None:
        self._waiting.append(pc.drop_null(values))
        self.bytes += self._waiting[-1].nbytes
        if sum(map(len, self._waiting)) > MAX_VALUES or sum(values.nbytes for values in self._waiting) > MAX_BYTES:
            self._count()

    def most_frequent(self, number: int) -> tuple[int, list[tuple[bytes, int]]]:
        """Return how many distinct values there are, and the `number` most frequent with their counts.

        Of equally frequent values the larger come first.
        """
        self._count()
        unique, top = 0, SCHEMA.empty_table()
        for part in self._files.parts() if self._files else [self._counted]:
            unique += part.num_rows
            candidates = pa.concat_tables([top, part])
            if candidates.num_rows:  # Arrow's select_k fails on an empty table
                top = candidates.take(pc.select_k_unstable(candidates, number, LARGEST_FIRST))
        return unique, list(zip(*(top.column(name).to_pylist() for name in SCHEMA.names), strict=True))

    def _count(self) -> None:
        if not self._waiting:
            return
        counted = pa.chunked_array(self._waiting).value_counts()
        arrays = [counted.field("values").cast(pa.large_binary()), counted.field("counts")]
        new, self._waiting = pa.table(arrays, schema=SCHEMA), []
        self._counted = _summed(pa.concat_tables([self._counted, new])) if self._counted.num_rows else new
        if self._files or self._counted.num_rows > MAX_VALUES or self._counted.nbytes > MAX_BYTES:
            self._files = self._files or Files(self._folder)
            self._files.write(self._counted)
            self._counted = SCHEMA.empty_table()


class Files:
    """Counts on disk, partitioned into files by a digit of the value's hash."""

    def __init__(self, folder: Path, digit: int = 0) -> None:
        folder.mkdir()
        self._digit = digit
        self._paths = [folder / str(number) for number in range(FILES)]
        self._writers = [pa.ipc.new_stream(str(path), SCHEMA) for path in self._paths]

    def write(self, counts: pa.Table) -> None:
        hashes = pd.util.hash_array(counts.column("value").to_numpy(), categorize=False)
        paths = hashes // FILES**self._digit % FILES
        for number, writer in enumerate(self._writers):
            writer.write_table(counts.filter(pa.array(paths == number)))

    def parts(self) -> Iterator[pa.Table]:
        """Close the files and yield the summed counts in parts with disjoint values."""
        for writer in self._writers:
            writer.close()
        for path in self._paths:
            divided = None
            with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as counts:
                if path.stat().st_size <= MAX_BYTES or self._digit + 1 == DIGITS:
                    yield _summed(counts.read_all())
                else:
                    divided = Files(path.with_name(f"{path.name}-divided"), self._digit + 1)
                    for batch in counts:
                        divided.write(pa.Table.from_batches([batch]))
            path.unlink()
            if divided:
                yield from divided.parts()


def _summed(counts: pa.Table) -> pa.Table:
    return counts.group_by("value").aggregate([("count", "sum")]).rename_columns(SCHEMA.names)


class ExactValueCounts(stats_generator.CombinerStatsGenerator):
    """TFDV's TopKUniquesStatsGenerator over a stream of batches instead of Beam: the same values, without weights."""

    def __init__(self, options: tfdv.StatsOptions) -> None:
        super().__init__("ExactValueCounts", options.schema)
        self._options = options
        self._bytes = frozenset(get_bytes_features(options.schema) if options.schema else [])
        self._folder = tempfile.TemporaryDirectory(prefix="nightly-counts-")

    def create_accumulator(self) -> dict[types.FeaturePath, ValueCounts]:
        return {}

    def add_input(
        self, accumulator: dict[types.FeaturePath, ValueCounts], input_record_batch: pa.RecordBatch
    ) -> dict[types.FeaturePath, ValueCounts]:
        for path, column, _ in enumerate_arrays(input_record_batch, None, enumerate_leaves_only=True):
            kind = get_feature_type_from_arrow_type(path, column.type)
            if kind == statistics_pb2.FeatureNameStatistics.STRING and path not in self._bytes:
                values, _ = array_util.flatten_nested(column)
                folder = Path(self._folder.name) / str(len(accumulator))
                accumulator.setdefault(path, ValueCounts(folder)).add(values)
        return accumulator

    def extract_output(
        self, accumulator: dict[types.FeaturePath, ValueCounts]
    ) -> statistics_pb2.DatasetFeatureStatistics:
        statistics = statistics_pb2.DatasetFeatureStatistics()
        top, buckets = self._options.num_top_values, self._options.num_rank_histogram_buckets
        # Start with the most work: at the end it would keep a single thread busy.
        features = sorted(accumulator, key=lambda path: accumulator[path].bytes, reverse=True)
        counted = prefetch(lambda path: accumulator[path].most_frequent(max(top, buckets)), features)
        for path, (unique, frequent) in zip(features, counted, strict=True):
            if not unique:
                continue
            pairs = [FeatureValueCount(value, count) for value, count in frequent]
            statistics.features.append(make_feature_stats_proto_topk_uniques(path, top, buckets, unique, pairs))
        return statistics
