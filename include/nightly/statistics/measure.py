"""Compute TFDV's statistics of a stream of batches, in this process and in bounded memory."""

from collections.abc import Iterable

import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.statistics.value_counts import ExactValueCounts


def statistics_of(batches: Iterable[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return TFDV's statistics of a stream of batches, each column a list array."""
    options = tfdv.StatsOptions()
    basic, _ = stats_impl.get_generators(options, in_memory=True)  # the other generator estimates by sketches
    generators = [basic, ExactValueCounts(options)]
    accumulators = [generator.create_accumulator() for generator in generators]
    for batch in batches:
        accumulators = [
            generator.compact(generator.add_input(accumulator, batch))
            for generator, accumulator in zip(generators, accumulators, strict=True)
        ]
    return stats_impl.extract_statistics_output(accumulators, generators)
