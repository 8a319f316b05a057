"""Statistics and conversion on a Beam runner, for data that one machine cannot hold, and a dry run of the job.

One worker reads one file, with the same code as in process, so divide large data into many files.
include/nightly/engines/beam.py checks the options before anything starts.
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

from nightly.compat.beam import dataflow_environment
from nightly.data import kinds
from nightly.data.bad_rows import BadRows
from nightly.data.converting import FILE, Splitter, check_types, encode, new_folder
from nightly.data.errors import DataError
from nightly.data.files import is_remote
from nightly.data.measuring import Statistics, load_statistics
from nightly.data.reading import Columns, DataSet, open_data
from nightly.engines.beam import Options, check_reach, pipeline, pipeline_options
from nightly.statistics.sizes import stats_options

Graph = Callable[[beam.Pipeline], None]


def statistics_on_beam(
    data: str | Path,
    beam_args: Sequence[str],
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    max_rejected_share: float | None = None,
) -> Statistics:
    """Compute the same as `statistics` on a Beam runner, e.g. ["--runner=DataflowRunner", "--project=…", …].

    :param max_rejected_share: the largest share of unreadable rows in any file
    :raises BeamOptionsError: the options cannot work; nothing was started
    """
    opened = open_data(data, model=model, schema=schema, max_rejected_share=max_rejected_share)
    options = pipeline_options(beam_args)
    with _shared_folder(options) as folder:
        output = FileSystems.join(folder, "FeatureStats.pb")
        check_reach(options, [*opened.files, output])
        with pipeline(options) as job:
            _statistics(opened, output)(job)
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
    """Write the same as `convert` with a Beam runner. `shards=0` leaves the number of shards to the runner.

    A local `out` appears only when it is complete. In a bucket each file does, and a failed job's files are removed.
    """
    opened = open_data(data, model=model, schema=schema, strict=True, max_rejected_share=max_rejected_share)
    splitter = Splitter.create(split, id_columns, opened)
    options = pipeline_options(beam_args)
    check_reach(options, [*opened.files, str(out)])
    target = _new_remote_folder(str(out)) if is_remote(str(out)) else str(new_folder(out))
    staging = target if is_remote(target) else f"{Path(target).parent}/.{Path(target).name}.{uuid.uuid4().hex[:8]}"
    try:
        job = pipeline(options)
        _examples(opened, splitter, staging, shards, gzip)(job)
        result = job.run()
        result.wait_until_finish()
    except BaseException:
        if FileSystems.exists(staging):
            FileSystems.delete([staging])
        raise
    if staging != target:
        Path(staging).rename(target)
    counters = {counter.key.metric.name: counter.result for counter in result.metrics().query()["counters"]}
    return {name: counters.get(f"rows {name}", 0) for name in splitter.names}


def dry_run(
    data: str | Path, beam_args: Sequence[str], *, out: str | Path | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Return the job as plain data, without submitting it. For Dataflow it includes the API's own Job.

    :param out: the folder of a conversion; None for statistics
    :param kwargs: the other arguments of `statistics_on_beam` or `convert_on_beam`
    :raises BeamOptionsError: the options cannot work
    """
    split, ids = kwargs.pop("split", None), kwargs.pop("id_columns", ())
    shards, gzip = kwargs.pop("shards", 0), kwargs.pop("gzip", False)
    opened = open_data(data, strict=out is not None, offline=True, **kwargs)
    options = pipeline_options(beam_args)
    output = str(out or FileSystems.join(_folder(options) or tempfile.gettempdir(), "FeatureStats.pb"))
    check_reach(options, [*opened.files, output])
    graph = _statistics(opened, output)
    if out is not None:
        graph = _examples(opened, Splitter.create(split, ids, opened), output, shards, gzip)
    return describe(options, graph)


def describe(options: Options, graph: Graph) -> dict[str, Any]:
    """Return the job of `graph` on the options' runner, as plain data."""
    if "dataflow" in str(options.view_as(beam_options.StandardOptions).runner).lower():
        return _dataflow_job(options, graph)
    job = pipeline(options)
    graph(job)
    return {
        "runner": options.view_as(beam_options.StandardOptions).runner,
        "options": options.get_all_options(drop_default=True),
        "steps": _steps(job.to_runner_api()),
    }


def _dataflow_job(options: Options, graph: Graph) -> dict[str, Any]:
    """Return the request that Beam's own client would send: with dry_run, Beam's runner stops before sending it."""
    options.view_as(beam_options.TestOptions).dry_run = True
    dry = pipeline(options)
    graph(dry)
    job = dry.run().job
    job.proto.environment = dataflow_environment(job)
    request = json_format.MessageToDict(type(job.proto).pb(job.proto), preserving_proto_field_name=True)
    request["environment"].pop("sdk_pipeline_options", None)  # it lists every option, defaults included
    return {
        "runner": "DataflowRunner",
        "project": job.google_cloud_options.project,
        "region": job.google_cloud_options.region,
        "job": request,
        "steps": _steps(job.proto_pipeline),
    }


def _steps(job: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Return the names of the job's outermost transforms."""
    names = {transform.unique_name.split("/")[0] for transform in job.components.transforms.values()}
    return sorted(name for name in names if name and not name.startswith("ref_"))


def _statistics(data: DataSet, output: str) -> Graph:
    def build(job: beam.Pipeline) -> None:
        batches = _rows(job, data) | "Features" >> beam.Map(data.features).with_output_types(pa.RecordBatch)
        # Without a schema, the values would have to be read here to know which are bytes.
        options = stats_options(data.declared.sized if data.declared else {})
        measured = batches | "Statistics" >> tfdv.GenerateStatistics(options)
        _ = measured | "Write" >> tfdv.WriteStatisticsToBinaryFile(output)

    return build


def _examples(data: DataSet, splitter: Splitter, output: str, shards: int, gzip: bool) -> Graph:
    def build(job: beam.Pipeline) -> None:
        encoder = beam.ParDo(_Encode(data, splitter)).with_outputs(*map(_tag, splitter.names))
        examples = _rows(job, data) | "Encode" >> encoder
        for name in splitter.names:
            path = FileSystems.join(*filter(None, (output, splitter.folder(name), FILE)))
            write = beam.io.WriteToTFRecord(path, file_name_suffix=".gz" if gzip else "", num_shards=shards)
            _ = examples[_tag(name)] | f"Write{name}" >> write

    return build


def _tag(name: str) -> str:
    return name or "all"


def _rows(job: beam.Pipeline, data: DataSet) -> beam.PCollection[pa.RecordBatch]:
    """Read the rows of all files, after a first pass that infers the columns; the workers run both."""
    files = job | "Files" >> beam.Create(data.files, reshuffle=True)
    merge = beam.CombineGlobally(_MergeColumns(data))
    columns = files | "Infer" >> beam.Map(data.infer) | "Columns" >> merge
    return files | "Read" >> beam.FlatMap(_read, data, beam.pvalue.AsSingleton(columns))


def _read(file: str, data: DataSet, columns: Columns) -> Iterator[pa.RecordBatch]:
    bad, kept = BadRows(), 0
    for batch in data.read(file, columns, bad):
        kept += batch.num_rows
        yield batch
    bad.check(file, kept, data.max_rejected_share)


class _MergeColumns(beam.CombineFn):
    """Merges the columns of files, and resolves their types at the end."""

    def __init__(self, data: DataSet) -> None:
        self._data = data

    def create_accumulator(self) -> Columns:
        return {}

    def add_input(self, merged: Columns, columns: Columns) -> Columns:
        return kinds.merge([merged, columns])

    def merge_accumulators(self, merged: list[Columns]) -> Columns:
        return kinds.merge(merged)

    def extract_output(self, merged: Columns) -> Columns:
        return self._data.resolve([merged])


class _Encode(beam.DoFn):
    """Encodes rows as tf.Example, sends each to its split's output, and counts them."""

    def __init__(self, data: DataSet, splitter: Splitter) -> None:
        self._data = data
        self._splitter = splitter

    def process(self, rows: pa.RecordBatch):
        features = self._data.features(rows)
        check_types(features, self._data)
        splits = self._splitter.split_numbers(rows)
        for number, name in enumerate(self._splitter.names):
            beam.metrics.Metrics.counter("nightly", f"rows {name}").inc(int((splits == number).sum()))
        for example, number in zip(encode(features), splits.tolist(), strict=True):
            yield beam.pvalue.TaggedOutput(_tag(self._splitter.names[number]), example)


def _folder(options: Options) -> str | None:
    """Return the folder that the workers and this machine share, or None for a local runner."""
    return options.view_as(beam_options.GoogleCloudOptions).temp_location


@contextmanager
def _shared_folder(options: Options) -> Iterator[str]:
    """Yield a folder for one job's output, in temp_location if that is set, and remove it at the end."""
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


def _new_remote_folder(out: str) -> str:
    (match,) = FileSystems.match([out.rstrip("/") + "/**"], limits=[1])
    if match.metadata_list:
        raise DataError(f"{out} has files already; remove them, or name another folder")
    return out.rstrip("/")
