"""Statistics and conversion on a Beam runner, for what one machine cannot hold; and the job, looked at before it runs.

Every file is read by one worker, by the same code as in process: give large data as many files. Options are those of
include/nightly/engines/beam.py, which checks them before anything starts.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow_data_validation as tfdv
from apache_beam.io.filesystems import FileSystems
from apache_beam.options import pipeline_options as beam_options
from apache_beam.portability.api import beam_runner_api_pb2
from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.data import kinds
from nightly.data.bad_rows import BadRows
from nightly.data.converting import FILE, Sides, check_types, encoded, fresh
from nightly.data.errors import DataError
from nightly.data.files import is_remote
from nightly.data.measuring import Statistics, load_statistics
from nightly.data.reading import Columns, DataSet, open_data
from nightly.engines.beam import Options, check_reach, pipeline, pipeline_options

Graph = Callable[[beam.Pipeline], None]
ENVIRONMENT_VERSION = "8"  # of Dataflow's job format, as its client sends it


def statistics_on_beam(
    data: str | Path,
    beam_args: Sequence[str],
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    max_rejected_share: float | None = None,
) -> Statistics:
    """What `statistics` gives, computed by a Beam runner, e.g. ["--runner=DataflowRunner", "--project=…", …].

    :param max_rejected_share: of the rows of a file
    :raises BeamOptionsError: the options cannot work; nothing was started
    """
    opened = open_data(data, model=model, schema=schema, max_rejected_share=max_rejected_share)
    options = pipeline_options(beam_args)
    with _shared_folder(options) as folder:
        output = FileSystems.join(folder, "FeatureStats.pb")
        check_reach(options, [*opened.files, output])
        with pipeline(options) as begin:
            _statistics(opened, output)(begin)
        return load_statistics(output)


def convert_on_beam(
    data: str | Path,
    out: str | Path,
    beam_args: Sequence[str],
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    shards: int = 0,
    gzip: bool = False,
    split: Mapping[str, int] | None = None,
    id_columns: Sequence[str] = (),
    max_rejected_share: float | None = None,
) -> dict[str, int]:
    """What `convert` writes, written by a Beam runner. `shards=0` leaves their number to it.

    A local `out` is there as a whole or not at all; in a bucket each file is, and what a failed job left is removed.
    """
    opened = open_data(data, model=model, schema=schema, strict=True, max_rejected_share=max_rejected_share)
    sides = Sides.of(split, id_columns, opened)
    options = pipeline_options(beam_args)
    check_reach(options, [*opened.files, str(out)])
    target = _fresh_remote(str(out)) if is_remote(str(out)) else str(fresh(out))
    staging = target if is_remote(target) else f"{Path(target).parent}/.{Path(target).name}.{uuid.uuid4().hex[:8]}"
    try:
        begin = pipeline(options)
        _examples(opened, sides, staging, shards, gzip)(begin)
        result = begin.run()
        result.wait_until_finish()
    except BaseException:
        if FileSystems.exists(staging):
            FileSystems.delete([staging])
        raise
    if staging != target:
        Path(staging).rename(target)
    counters = {found.key.metric.name: found.result for found in result.metrics().query()["counters"]}
    return {name: counters.get(f"rows {name}", 0) for name in sides.names}


def dry_run(data: str | Path, beam_args: Sequence[str], *, out: str | Path | None = None, **how: Any) -> dict[str, Any]:
    """The job that would be submitted, without submitting it, as plain data; of Dataflow, its API's own Job.

    :param out: of a conversion; None: statistics
    :param how: what the other functions take
    :raises BeamOptionsError: the options cannot work
    """
    split, ids = how.pop("split", None), how.pop("id_columns", ())
    shards, gzip = how.pop("shards", 0), how.pop("gzip", False)
    opened = open_data(data, strict=out is not None, listed=False, **how)
    options = pipeline_options(beam_args)
    output = str(out or FileSystems.join(_folder(options) or tempfile.gettempdir(), "FeatureStats.pb"))
    check_reach(options, [*opened.files, output])
    graph = _statistics(opened, output)
    if out is not None:
        graph = _examples(opened, Sides.of(split, ids, opened), output, shards, gzip)
    return describe(options, graph)


def describe(options: Options, graph: Graph) -> dict[str, Any]:
    """The job of `graph` on the runner that `options` name."""
    if "dataflow" in str(options.view_as(beam_options.StandardOptions).runner).lower():
        return _dataflow_job(options, graph)
    begin = pipeline(options)
    graph(begin)
    return {
        "runner": options.view_as(beam_options.StandardOptions).runner,
        "options": options.get_all_options(drop_default=True),
        "steps": _steps(begin.to_runner_api()),
    }


def _dataflow_job(options: Options, graph: Graph) -> dict[str, Any]:
    """Beam's runner builds the job and stops before it is sent; what is sent is built of it by Beam's own client."""
    from apache_beam.runners.dataflow.internal import apiclient

    options.view_as(beam_options.TestOptions).dry_run = True
    begin = pipeline(options)
    graph(begin)
    job = begin.run().job
    environment = apiclient.Environment(
        packages=[],
        options=job.options,
        environment_version=ENVIRONMENT_VERSION,
        proto_pipeline_staged_url=FileSystems.join(job.google_cloud_options.staging_location, "pipeline.pb"),
        proto_pipeline=job.proto_pipeline,
    )
    job.proto.environment = environment.proto
    sent = json_format.MessageToDict(type(job.proto).pb(job.proto), preserving_proto_field_name=True)
    sent["environment"].pop("sdk_pipeline_options", None)  # every option there is, given or not
    return {
        "runner": "DataflowRunner",
        "project": job.google_cloud_options.project,
        "region": job.google_cloud_options.region,
        "job": sent,
        "steps": _steps(job.proto_pipeline),
    }


def _steps(job: beam_runner_api_pb2.Pipeline) -> list[str]:
    """The names of its outer transforms."""
    names = {transform.unique_name.split("/")[0] for transform in job.components.transforms.values()}
    return sorted(name for name in names if name and not name.startswith("ref_"))


def _statistics(data: DataSet, output: str) -> Graph:
    def build(begin: beam.Pipeline) -> None:
        batches = _rows(begin, data) | "Features" >> beam.Map(data.features).with_output_types(pa.RecordBatch)
        measured = batches | "Statistics" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
        _ = measured | "Write" >> tfdv.WriteStatisticsToBinaryFile(output)

    return build


def _examples(data: DataSet, sides: Sides, output: str, shards: int, gzip: bool) -> Graph:
    def build(begin: beam.Pipeline) -> None:
        encode = beam.ParDo(_Encode(data, sides)).with_outputs(*map(_tag, sides.names))
        encoded = _rows(begin, data) | "Encode" >> encode
        for name in sides.names:
            path = FileSystems.join(*filter(None, (output, sides.folder(name), FILE)))
            write = beam.io.WriteToTFRecord(path, file_name_suffix=".gz" if gzip else "", num_shards=shards)
            _ = encoded[_tag(name)] | f"Write{name}" >> write

    return build


def _tag(name: str) -> str:
    return name or "all"


def _rows(begin: beam.Pipeline, data: DataSet) -> beam.PCollection[pa.RecordBatch]:
    """The rows of all files; the columns of all are found by a first pass over them, on the workers too."""
    found = begin | "Files" >> beam.Create(data.files, reshuffle=True)
    merge = beam.CombineGlobally(_Settle(data))
    columns = found | "Infer" >> beam.Map(data.infer) | "Columns" >> merge
    return found | "Read" >> beam.FlatMap(_read, data, beam.pvalue.AsSingleton(columns))


def _read(file: str, data: DataSet, columns: Columns) -> Iterator[pa.RecordBatch]:
    bad, kept = BadRows(), 0
    for batch in data.read(file, columns, bad):
        kept += batch.num_rows
        yield batch
    bad.check(file, kept, data.max_rejected_share)


class _Settle(beam.CombineFn):
    """Merges the columns of files, and settles their types at the end."""

    def __init__(self, data: DataSet) -> None:
        self._data = data

    def create_accumulator(self) -> Columns:
        return {}

    def add_input(self, merged: Columns, columns: Columns) -> Columns:
        return kinds.merge([merged, columns])

    def merge_accumulators(self, merged: list[Columns]) -> Columns:
        return kinds.merge(merged)

    def extract_output(self, merged: Columns) -> Columns:
        return self._data.settled([merged])


class _Encode(beam.DoFn):
    """Rows -> serialized tf.Examples, each to its split's output, counted."""

    def __init__(self, data: DataSet, sides: Sides) -> None:
        self._data = data
        self._sides = sides

    def process(self, rows: pa.RecordBatch):
        features = self._data.features(rows)
        check_types(features, self._data)
        sides = self._sides.of_rows(rows)
        for number, name in enumerate(self._sides.names):
            beam.metrics.Metrics.counter("nightly", f"rows {name}").inc(int((sides == number).sum()))
        for example, side in zip(encoded(features), sides.tolist(), strict=True):
            yield beam.pvalue.TaggedOutput(_tag(self._sides.names[side]), example)


def _folder(options: Options) -> str | None:
    """Where the workers and this machine both write."""
    return options.view_as(beam_options.GoogleCloudOptions).temp_location


@contextmanager
def _shared_folder(options: Options) -> Iterator[str]:
    """A folder for one job's output, in temp_location where there is one; removed at the end."""
    shared = _folder(options)
    if shared is None:
        with tempfile.TemporaryDirectory(prefix="nightly-") as folder:
            yield folder
        return
    folder = FileSystems.join(shared, f"nightly-{uuid.uuid4().hex}")
    try:
        yield folder
    finally:
        if FileSystems.exists(folder):
            FileSystems.delete([folder])


def _fresh_remote(out: str) -> str:
    (found,) = FileSystems.match([out.rstrip("/") + "/**"], limits=[1])
    if found.metadata_list:
        raise DataError(f"{out} has files already; remove them, or name another folder")
    return out.rstrip("/")
