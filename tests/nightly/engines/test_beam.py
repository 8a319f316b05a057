"""Beam's options are checked before anything runs; pipelines run on several processes, and are built for Dataflow."""

import datetime as dt
import os
import signal
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from nightly.engines import beam as beam_engine
from nightly.engines.beam import BeamError, BeamOptionsError, check_reach, pipeline, pipeline_options
from nightly.examples.encoding import SPLITS, Encoding, RowGroup, Shards, add_counts
from nightly.io.paths import ROOT, Paths
from nightly.io.polling import poll
from nightly.models import load_config
from nightly.records.config import Pipeline
from nightly.records.night import Night
from nightly.statistics.on_workers import write_statistics
from tests.support import beam_sources

pytestmark = pytest.mark.slow

DATAFLOW = [
    *("--runner=DataflowRunner", "--project=my-project", "--region=europe-west4", "--temp_location=gs://bucket/tmp"),
    "--sdk_container_image=europe-docker.pkg.dev/my-project/ml/nightly:1",
]
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--projct=x"], "no option '--projct=x'; did you mean '--project'"),
        (["runner=DataflowRunner"], "did you mean '--runner'"),
        (["--runner=FlnkRunner"], "no runner 'FlnkRunner'; did you mean 'FlinkRunner'"),
        (["--runner=DaskRunner"], "DaskRunner is not used, since it loses tagged outputs.*; use FnApiRunner"),
        (["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"], "^DaskRunner is not used"),
        (["--runner=dask"], "dask is not used, since it loses"),
        (["--runner=apache_beam.runners.render.RenderRunner"], "RenderRunner is not used.*draws the job"),
        (["--environment_type=EXTERNAL"], "external_service_address is required for environment type"),
        (
            ["--environment_type=EXTERNAL", "--environment_config=a:50000,b"],
            "no worker pool: 'b'; write HOST:PORT",
        ),
        (
            ["--environment_type=EXTERNAL", "--environment_config=a:1", "--direct_running_mode=multi_processing"],
            "direct_running_mode is for processes of this host",
        ),
        (["--direct_running_mode=many"], "--direct_running_mode: invalid choice: 'many' .*'multi_processing'"),
        (["--direct_num_workers=two"], "--direct_num_workers: invalid int value: 'two'"),
        (["--runner=FlinkRunner", "--flink_mster=host:8081"], "did you mean '--flink_master'"),
        (["--runner=PortableRunner", "--environment_type=PROCESS"], "process_command is required"),
        (DATAFLOW[:1], "project is missing: write --project=.*; region is missing.*; temp_location is missing.*image="),
        (["--runner=dataflow", *DATAFLOW[1:4]], "workers would not have this project's code: write --sdk_container"),
        ([*DATAFLOW, "--temp_location=/tmp"], r"Invalid GCS path \(/tmp\), given for the option: temp_location"),
        ([*DATAFLOW, "--project=12345"], "Please make sure you specified the Project ID"),
        ([*DATAFLOW, "--num_workers=9", "--max_num_workers=2"], r"num_workers \(9\) cannot exceed"),
    ],
)
def test_options_that_cannot_work_are_refused_with_what_to_write(args, message):
    with pytest.raises(BeamOptionsError, match=message):
        pipeline_options(args)


def test_options_are_beams_own_objects():
    options = pipeline_options(PROCESSES)
    assert options.view_as(DirectOptions).direct_num_workers == 2
    assert pipeline_options(DATAFLOW).view_as(StandardOptions).runner == "DataflowRunner"


def test_options_of_a_job_server_are_left_to_it():
    assert pipeline_options(["--runner=FlinkRunner", "--flink_master=host:8081", "--checkpointing_interval=60000"])


@pytest.mark.parametrize("args", [[], ["--runner=DirectRunner"]])
def test_the_direct_runner_downloads_nothing(args):
    assert pipeline_options(args).view_as(StandardOptions).runner == "FnApiRunner"


def test_dataflow_is_refused_paths_of_this_machine():
    with pytest.raises(BeamOptionsError, match=r"DataflowRunner cannot read or write /mnt/snapshots: .*FlinkRunner"):
        check_reach(pipeline_options(DATAFLOW), ["gs://bucket/data", Path("/mnt/snapshots")])
    check_reach(pipeline_options(DATAFLOW), ["gs://bucket/data"])
    check_reach(pipeline_options(PROCESSES), ["/mnt/snapshots"])


def test_a_night_on_dataflow_needs_its_state_in_a_bucket(tmp_path, monkeypatch):
    paths = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path)})
    config = load_config("taxi").model_copy(update={"pipeline": Pipeline(engine="beam", beam_args=DATAFLOW)})
    monkeypatch.setattr(beam_engine, "config_of", lambda night: config)
    write_night(tmp_path / "night")
    with pytest.raises(BeamOptionsError, match=rf"cannot reach the state in {tmp_path}: .*NIGHTLY_STATE"):
        beam_engine.check(tmp_path / "night", paths)
    monkeypatch.setenv("NIGHTLY_STATE", "gs://my-bucket/nightly")
    assert beam_engine.check(tmp_path / "night", paths) == {"runner": "DataflowRunner"}


def write_night(folder):
    folder.mkdir()
    now = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    Night(
        model="taxi", run_id="run", trigger="command", requested_by="me", as_of=now, window_start=now, release=False,
        train_steps=1, code_version="", planned_at=now,
    ).save(folder / "request.json")  # fmt: skip


def test_work_is_done_by_other_processes(tmp_path):
    with pipeline(pipeline_options(PROCESSES)) as begin:
        pids = begin | beam.Create(range(8), reshuffle=True) | beam.Map(beam_sources.pid)
        _ = pids | beam.io.WriteToText(str(tmp_path / "pids"))
    pids = {int(pid) for path in tmp_path.iterdir() for pid in path.read_text().split()}
    assert len(pids) == 2 and os.getpid() not in pids


def test_an_error_of_a_worker_is_the_pipelines_in_one_line():
    with (
        pytest.raises(BeamError, match=r"^ValueError: the source 7 is damaged \[while running"),
        pipeline(pipeline_options(PROCESSES[:1])) as begin,
    ):
        _ = begin | beam.Create([7]) | beam.Map(beam_sources.damaged)


def test_workers_end_with_the_process_group_of_their_task(tmp_path):
    task = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys, apache_beam as beam\n"
            "from nightly.engines.beam import pipeline, pipeline_options\n"
            "from tests.support.beam_sources import endless\n"
            "with pipeline(pipeline_options(sys.argv[2:])) as begin:\n"
            "    begin | beam.Create([sys.argv[1]]) | beam.Map(endless)\n",
            *(str(tmp_path), *PROCESSES[:1]),
        ],
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        pids = poll(
            lambda: [int(path.name) for path in tmp_path.iterdir()],
            until=lambda pids: pids or task.poll() is not None,
            every=0.1,
            seconds=300,
        )
        assert pids, "no worker has begun"
        assert pids != [task.pid]
    finally:
        os.killpg(task.pid, signal.SIGKILL)
        task.wait()
    command = Path(f"/proc/{pids[0]}/cmdline")  # empty while a dead process is not yet waited for
    ended = poll(lambda: not command.exists() or not command.read_bytes(), every=0.1, seconds=60)
    assert ended, "a worker lives on"


def test_a_job_for_dataflow_is_built_without_a_cloud():
    groups = [RowGroup("/var/snapshots/taxi/1/rows-00000.parquet", number) for number in range(3)]
    encoding = Encoding(["fare"], ["fare"], "big_tipper", eval_percent=20)
    shards = Shards(encoding, "/var/snapshots/taxi/1", {split: f"/var/Split-{split}/data" for split in SPLITS}, 3)
    with pipeline(pipeline_options([*DATAFLOW, "--dry_run=True"])) as begin:
        sources = begin | beam.Create(list(enumerate(groups)), reshuffle=True)
        _ = sources | beam.Map(shards.write) | beam.CombineGlobally(add_counts)
        rows = sources | beam.FlatMap(lambda shard: shard[1].batches()).with_output_types(pa.RecordBatch)
        measured = rows | "measure" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
        _ = measured | "write" >> beam.Map(write_statistics, "/var/FeatureStats.pb", shards.state)
    job = begin.result.job
    steps = {transform.unique_name.split("/")[0] for transform in job.proto_pipeline.components.transforms.values()}
    assert {"Map(write)", "measure", "write"} <= steps
    environments = list(job.proto_pipeline.components.environments.values())
    assert environments and all(b"my-project/ml/nightly:1" in environment.payload for environment in environments)
    assert job.google_cloud_options.region == "europe-west4"
