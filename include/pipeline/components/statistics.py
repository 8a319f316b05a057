"""TFDV statistics in this process, batch by batch, without Beam: the same figures as StatisticsGen's."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.tfxio import dataset_options, tf_example_record

log = logging.getLogger("nightly")

BATCH_ROWS = 32_768


@component
def InProcessStatisticsGen(
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
) -> None:
    """Statistics of each split of `examples`, as StatisticsGen writes them (FeatureStats.pb a split)."""
    splits = artifact_utils.decode_split_names(examples.split_names)
    statistics.split_names = artifact_utils.encode_split_names(splits)
    statistics.span = examples.span
    for split in splits:
        found = statistics_of(record_batches(artifact_utils.get_split_uri([examples], split)))
        folder = Path(artifact_utils.get_split_uri([statistics], split))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / statistics_gen.DEFAULT_FILE_NAME).write_bytes(found.SerializeToString())
        dataset = found.datasets[0]
        log.info("%s: %d examples, %d features", split, dataset.num_examples, len(dataset.features))


def record_batches(split_uri: str, raw_record_column: str | None = None) -> Iterator[pa.RecordBatch]:
    """The split's examples as Arrow, a bounded batch at a time; nothing where the split is empty."""
    reader = tf_example_record.TFExampleRecord(
        str(Path(split_uri) / "*"), telemetry_descriptors=["nightly"], raw_record_column_name=raw_record_column
    )
    options = dataset_options.RecordBatchesOptions(batch_size=BATCH_ROWS, num_epochs=1, shuffle=False)
    return reader.RecordBatches(options)


def statistics_of(batches: Iterator[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """TFDV's statistics of a stream of batches (each column a list array), in memory that does not grow with it."""
    generators = stats_impl.get_generators(tfdv.StatsOptions(), in_memory=True)
    accumulators = [generator.create_accumulator() for generator in generators]
    for batch in batches:
        accumulators = [
            generator.compact(generator.add_input(accumulator, batch))
            for generator, accumulator in zip(generators, accumulators, strict=True)
        ]
    return stats_impl.extract_statistics_output(accumulators, generators)
