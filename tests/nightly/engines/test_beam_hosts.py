"""Beam's workers on other hosts: network namespaces, each with Beam's worker pool."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nightly.io.paths import ROOT, python_path
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
    deadline = time.monotonic() + 300
    while len(pids := [int(path.name) for path in (tmp_path / "out").iterdir()]) < 2:
        assert task.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
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
