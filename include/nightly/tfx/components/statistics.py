"""TFDV statistics: in this process, batch by batch, with the same values as StatisticsGen's; or on Beam, by TFDV."""

import json
import logging
from pathlib import Path

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from nightly.engines.beam import pipeline, pipeline_options
from nightly.examples.reading import Reader, column_batches, columns_file, record_batches
from nightly.state.workers import WorkerState, collect
from nightly.statistics.measure import statistics_of
from nightly.statistics.on_workers import write_statistics
from nightly.statistics.sizes import stats_options

log = logging.getLogger("nightly")

FILE = statistics_gen.DEFAULT_FILE_NAME


@component
def InProcessStatisticsGen(
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: OutputArtifact[standard_artifacts.ExampleStatistics],
    sized: Parameter[str] = "{}",
    beam_args: Parameter[str] = "",
) -> None:
    """Write the statistics of each split of `examples` as StatisticsGen does: one FeatureStats.pb a split.

    :param sized: JSON {feature: image, bytes or text} of the features that are measured by the sizes of their values
    :param beam_args: JSON list of Beam options; "" to run in this process
    """
    splits = artifact_utils.decode_split_names(examples.split_names)
    statistics.split_names = artifact_utils.encode_split_names(splits)
    statistics.span = examples.span
    inputs = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
    outputs = {split: Path(artifact_utils.get_split_uri([statistics], split)) / FILE for split in splits}
    for output in outputs.values():
        output.parent.mkdir(parents=True, exist_ok=True)
    measured_by_size = json.loads(sized)
    if beam_args:
        with pipeline(pipeline_options(json.loads(beam_args))) as begin:
            for split, output in outputs.items():
                rows = begin | f"read {split}" >> Reader(examples.uri, inputs[split]).source()
                measured = rows | f"measure {split}" >> tfdv.GenerateStatistics(stats_options(measured_by_size))
                _ = measured | f"write {split}" >> beam.Map(write_statistics, str(output), WorkerState())
        collect(Path(statistics.uri))
    else:
        for split, output in outputs.items():
            columns = columns_file(examples.uri, split)  # only SnapshotExampleGen writes one
            batches = column_batches(columns) if columns.exists() else record_batches(inputs[split])
            output.write_bytes(statistics_of(batches, measured_by_size).SerializeToString())
    for split, output in outputs.items():
        (dataset,) = tfdv.load_stats_binary(str(output)).datasets
        log.info("%s: %d examples, %d features", split, dataset.num_examples, len(dataset.features))
