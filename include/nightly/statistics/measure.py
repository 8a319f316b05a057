"""Compute TFDV's statistics of a stream of batches, in this process and in bounded memory."""

from collections.abc import Iterable, Mapping

import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.compat.tfdv import extract_statistics_output, get_generators
from nightly.schemas.features import Sized
from nightly.statistics.sizes import stats_options
from nightly.statistics.value_counts import ExactValueCounts


def statistics_of(
    batches: Iterable[pa.RecordBatch], sized: Mapping[str, Sized] = {}
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return TFDV's statistics of a stream of batches, each column a list array.

    :param sized: the features that are measured by the sizes of their values
    """
    options = stats_options(sized)
    # The second of TFDV's generators estimates counts by sketches. Behind it are those of the options.
    basic, _, *others = get_generators(options, in_memory=True)
    generators = [basic, ExactValueCounts(options), *others]
    accumulators = [generator.create_accumulator() for generator in generators]
    for batch in batches:
        accumulators = [
            generator.compact(generator.add_input(accumulator, batch))
            for generator, accumulator in zip(generators, accumulators, strict=True)
        ]
    return extract_statistics_output(accumulators, generators)
