"""Convert a snapshot to examples: Parquet -> Arrow -> tf.Example, in this process or on Beam."""

import contextlib
import json
import logging
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from nightly.engines.beam import pipeline, pipeline_options
from nightly.examples.days import first_eval_day, rows_by_day
from nightly.examples.encoding import (
    SPLITS,
    UNLABELLED,
    Encoding,
    RowGroup,
    Shards,
    add_counts,
    as_lists,
    row_groups,
)
from nightly.examples.reading import columns_file
from nightly.examples.tfexample import serialized
from nightly.examples.tfrecord import framed
from nightly.io.prefetch import prefetch
from nightly.io.space import check_space
from nightly.snapshots.verification import verify_snapshot
from nightly.state.workers import collect

log = logging.getLogger("nightly")

FILES = "data_tfrecord"  # -00000-of-00001, …; not compressed: written once and read several times this night


@component
def SnapshotExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    snapshot: Parameter[str],
    columns: Parameter[str],
    id_columns: Parameter[str],
    label: Parameter[str],
    eval_percent: Parameter[int],
    newest_by: Parameter[str] = "",
    classes: Parameter[str] = "[]",
    beam_args: Parameter[str] = "",
) -> None:
    """Write a snapshot's labelled rows as tf.Example, split by a hash of their id, or by time.

    A value becomes a list of length 1; a null becomes a missing feature. By the hash, an id is in the same split every
    night, so the model in production is never evaluated on rows that it was trained on. By time, the eval split is the
    newest days, which as a rule no earlier night's model was trained on either. Rows without a label are left out; the
    data gate reports their number from the manifest.

    :param snapshot: the snapshot's folder
    :param columns: the columns to write, separated by newlines
    :param id_columns: the columns that identify a row, separated by newlines
    :param label: the label's column
    :param eval_percent: the percentage of ids in the eval split; by time, the least percentage of labelled rows
    :param newest_by: the time column, to hold out the newest days; "" to split by the hash
    :param classes: JSON list of the only labels that count when these days are chosen; [] if all do
    :param beam_args: JSON list of Beam options; "" to run in this process
    """
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    examples.set_string_custom_property("snapshot", Path(snapshot).name)
    outputs = {split: Path(artifact_utils.get_split_uri([examples], split)) / FILES for split in SPLITS}
    for output in outputs.values():
        output.parent.mkdir(parents=True, exist_ok=True)
    verify_snapshot(Path(snapshot))
    by_day = rows_by_day(Path(snapshot), label, newest_by, json.loads(classes)) if newest_by else {}
    eval_from = first_eval_day(by_day, eval_percent)
    encoding = Encoding(columns.split("\n"), id_columns.split("\n"), label, eval_percent, newest_by, eval_from)
    groups = row_groups(Path(snapshot))
    if beam_args:
        counts = _on_beam(groups, encoding, snapshot, outputs, json.loads(beam_args))
    else:
        columns_files = {split: columns_file(examples.uri, split) for split in SPLITS}
        counts = _in_process(groups, encoding, outputs, columns_files)
    log.info("%d examples to train on, %d to judge by", counts["train"], counts["eval"])
    if eval_from:
        days = [day for day, rows in by_day.items() if rows.labelled and day >= eval_from]
        log.info("held out are the newest %d days with a label, %s to %s", len(days), days[0], days[-1])
    if counts[UNLABELLED]:
        log.warning("%d rows have no %s and are left out", counts[UNLABELLED], label)


def _in_process(
    groups: list[RowGroup], encoding: Encoding, outputs: dict[str, Path], columns_files: dict[str, Path]
) -> dict[str, int]:
    """Write the examples as records and as columns. Return the number of rows by split, and of UNLABELLED rows."""

    def encoded(batch: pa.RecordBatch) -> tuple[int, dict[str, tuple[memoryview, pa.RecordBatch]]]:
        sides = encoding.sides(batch)
        return batch.num_rows, {split: (framed(serialized(rows)), as_lists(rows)) for split, rows in sides.items()}

    counts = dict.fromkeys([*SPLITS, UNLABELLED], 0)
    batches = (batch for group in groups for batch in group.batches())
    with contextlib.ExitStack() as opened:
        paths = {split: Path(f"{path}-00000-of-00001") for split, path in outputs.items()}
        files = {split: opened.enter_context(path.open("wb")) for split, path in paths.items()}
        schema = encoding.schema(pq.read_schema(groups[0].path))
        columns = {}
        for split, path in columns_files.items():
            path.parent.mkdir(exist_ok=True)
            columns[split] = opened.enter_context(pa.ipc.new_file(str(path), schema))
        for number, (rows, sides) in enumerate(prefetch(encoded, batches)):
            if not number:
                size = sum(len(records) + features.nbytes for records, features in sides.values())
                total = sum(pq.read_metadata(path).num_rows for path in {group.path for group in groups})
                folder = next(iter(paths.values())).parent
                check_space({folder: size * total // rows}, f"writing {total:,} examples (by the first {rows:,})")
            for split, (records, features) in sides.items():
                files[split].write(records)
                columns[split].write_batch(features)
                counts[split] += features.num_rows
                rows -= features.num_rows
            counts[UNLABELLED] += rows
    return counts


def _on_beam(
    groups: list[RowGroup], encoding: Encoding, snapshot: str, outputs: dict[str, Path], args: list[str]
) -> dict[str, int]:
    """Write the same splits on a Beam runner, a file for each row group. Return counts as _in_process does."""
    shards = Shards(encoding, snapshot, {split: str(path) for split, path in outputs.items()}, len(groups))
    counts = outputs["train"].with_name("counts.json")
    with pipeline(pipeline_options(args)) as begin:
        written = begin | beam.Create(list(enumerate(groups)), reshuffle=True) | beam.Map(shards.write)
        _ = written | beam.CombineGlobally(add_counts) | beam.Map(shards.save_counts, str(counts))
    for output in outputs.values():
        collect(output.parent)
    total = json.loads(counts.read_text())
    counts.unlink()
    return dict.fromkeys([*SPLITS, UNLABELLED], 0) | total
