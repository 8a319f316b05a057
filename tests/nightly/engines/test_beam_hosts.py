"""Beam's workers on other hosts: network namespaces, each with Beam's worker pool."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pandas as pd
import pytest

from nightly.examples.encoding import SPLITS, Encoding, Shards, add_counts, row_groups
from nightly.io.paths import ROOT, python_path
from nightly.io.polling import poll
from nightly.state.workers import WorkerState
from tests.nightly.state.conftest import read
from tests.support import beam_engines
from tests.support.beam_engines import POOL_PORT, worker_pool
from tests.support.namespaces import hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow]

JOB = """
import sys, apache_beam as beam
from nightly.engines.beam import pipeline, pipeline_options
from tests.support import beam_sources
folder, step, pools = sys.argv[1:]
options = pipeline_options(["--environment_type=EXTERNAL", f"--environment_config={pools}"])
with pipeline(options) as begin:
    done = begin | beam.Create([folder] * 8, reshuffle=True) | beam.Map(getattr(beam_sources, step))
"""

EXAMPLES = """
import json, os, sys
from pathlib import Path
import apache_beam as beam
from nightly.engines.beam import pipeline, pipeline_options
from nightly.examples.encoding import SPLITS, Encoding, Shards, add_counts, row_groups
from nightly.state import publish
from nightly.state.workers import collect
snapshot, output, pools = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
publish(snapshot)
groups = list(enumerate(row_groups(snapshot)))
outputs = {split: str(output / f"Split-{split}/data") for split in SPLITS}
shards = Shards(Encoding(["id", "label"], ["id"], "label", 20), str(snapshot), outputs, len(groups))
with pipeline(pipeline_options(["--environment_type=EXTERNAL", f"--environment_config={pools}"])) as begin:
    written = begin | beam.Create(groups, reshuffle=True) | beam.Map(shards.write) | beam.CombineGlobally(add_counts)
    _ = written | beam.Map(shards.save_counts, str(output / "counts.json"))
assert not output.exists(), "the workers' files are on their own hosts"
collect(output)
"""


@pytest.fixture(scope="module")
def network():
    with hosts(3) as made:
        yield made


@pytest.fixture
def pools(network, tmp_path):
    with worker_pool(tmp_path, network[1]), worker_pool(tmp_path, network[2]):
        yield ",".join(f"{host.address}:{POOL_PORT}" for host in network[1:])


def job(network, folder, step, pools):
    folder.mkdir()
    return network[0].start(
        [sys.executable, "-c", JOB, folder, step, pools],
        env=os.environ | {"PYTHONPATH": python_path(ROOT)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_host_does_a_part(network, pools, tmp_path):
    task = job(network, tmp_path / "out", "leave_address", pools)
    assert task.wait(300) == 0, task.stderr.read()[-3000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {host.address for host in network[1:]}


def test_workers_that_die_fail_the_job(network, pools, tmp_path):
    task = job(network, tmp_path / "out", "endless", pools)
    pids = poll(
        lambda: [int(path.name) for path in (tmp_path / "out").iterdir()],
        until=lambda pids: len(pids) >= 2 or task.poll() is not None,
        every=0.1,
        seconds=300,
    )
    assert len(pids) >= 2, "the workers have not begun"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    try:
        assert task.wait(120) != 0
        assert "BeamError: a worker ended on 10." in task.stderr.read()
    finally:
        if task.poll() is None:
            os.killpg(task.pid, signal.SIGKILL)


def test_a_pool_that_is_not_there_is_named(network, tmp_path):
    task = job(network, tmp_path / "out", "leave_address", f"{network[1].address}:1")
    assert task.wait(300) != 0
    assert f"BeamError: the worker pool {network[1].address}:1 cannot be reached" in task.stderr.read()


def test_on_hosts_without_a_shared_disk_workers_fetch_the_snapshot_and_hand_over_examples(network, tmp_path):
    driver, *others = network
    var, credentials = (
        tmp_path / "state/var",
        {"AWS_ACCESS_KEY_ID": "worker", "AWS_SECRET_ACCESS_KEY": "planted-secret"},
    )
    credentials |= {"AWS_ENDPOINT_URL": f"http://{driver.address}:9000", "AWS_REGION": "us-east-1"}
    environment = credentials | {"NIGHTLY_STATE": "s3://nightly/state", "NIGHTLY_VAR": str(var)}
    snapshot, output = var / "snapshots/taxi/1", var / "pipeline/taxi/examples/examples/1"
    snapshot.mkdir(parents=True)
    frame = pd.DataFrame({"id": range(1000), "label": [n % 2 for n in range(1000)]})
    frame.to_parquet(snapshot / "rows-00000.parquet", row_group_size=200)
    with ExitStack() as stack:
        stack.enter_context(beam_engines.s3_server(tmp_path, driver, 9000, environment))
        for host in others:
            stack.enter_context(worker_pool(tmp_path, host, hidden=var, environment=credentials))
        pools = ",".join(f"{host.address}:{POOL_PORT}" for host in others)
        command = [*driver.prefix, sys.executable, "-c", EXAMPLES, str(snapshot), str(output), pools]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": python_path(ROOT)} | environment, cwd=ROOT, check=True)
    counts = json.loads((output / "counts.json").read_text())
    assert counts["train"] + counts["eval"] == 1000
    encoding = Encoding(["id", "label"], ["id"], "label", 20)
    here = {split: str(tmp_path / f"here/Split-{split}/data") for split in SPLITS}
    work = Shards(encoding, str(snapshot), here, 5, WorkerState({}))
    assert add_counts(map(work.write, enumerate(row_groups(snapshot)))) == counts
    (output / "counts.json").unlink()
    assert read(output) == read(tmp_path / "here")
