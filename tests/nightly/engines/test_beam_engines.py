"""The four nodes that run on Beam, on each engine that is here, against the same nodes in this process.

The last test measures: NIGHTLY_TEST_BEAM_ROWS=10000000 bin/test -m campaign -k "slots"
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from nightly.io.paths import ROOT, python_path
from tests.support import beam_engines, beam_same
from tests.support.namespaces import hosts

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1800)]

ROWS = 12_000
MANY_ROWS = int(os.environ.get("NIGHTLY_TEST_BEAM_ROWS", "1000000"))
BUCKET = "s3://nightly/state"
BUCKET_PORT = 9000


def nodes(var: Path, *words: str, prefix=(), **environment: str) -> str:
    """Run tests/support/beam_nodes.py over the state in `var`, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTLY_")}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "tests.support.beam_nodes", *words],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": python_path(ROOT), "NIGHTLY_VAR": str(var)} | environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    """A state in which the nodes have run in a process, as the run `here`."""
    var = tmp_path_factory.mktemp("state") / "var"
    nodes(var, "prepare", str(ROWS))
    nodes(var, "run", "here")
    return var


def assert_same(var: Path, run: str) -> None:
    def outputs(node: str, name: str) -> list[Path]:
        return [var / "pipeline/taxi" / node / name / each for each in ("here", run)]

    beam_same.assert_examples(*outputs("examples", "examples"))
    beam_same.assert_statistics(*outputs("statistics", "statistics"))
    beam_same.assert_transform(*outputs("transform", "transform_graph"), *outputs("transform", "transformed_examples"))
    beam_same.assert_evaluation(*outputs("evaluator", "evaluation"))


@pytest.mark.parametrize("name", beam_engines.ENGINES)
def test_in_a_folder_that_all_workers_see_the_nodes_give_the_same(name, var, tmp_path):
    with beam_engines.running(name, tmp_path) as engine:
        nodes(var, "run", name, *engine.args, prefix=engine.prefix)
        engine.check()
    assert_same(var, name)


def test_on_hosts_without_a_shared_disk_the_nodes_give_the_same(var, tmp_path):
    with hosts(3) as (driver, *workers):
        environment = {
            "NIGHTLY_STATE": BUCKET,
            "AWS_ENDPOINT_URL": f"http://{driver.address}:{BUCKET_PORT}",
            "AWS_ACCESS_KEY_ID": "worker",
            "AWS_SECRET_ACCESS_KEY": "planted-secret",
            "AWS_REGION": "us-east-1",
        }
        credentials = {name: value for name, value in environment.items() if name.startswith("AWS_")}
        with (
            beam_engines.s3_server(tmp_path, driver, BUCKET_PORT, environment),
            beam_engines.worker_pool(tmp_path, workers[0], hidden=var, environment=credentials),
            beam_engines.worker_pool(tmp_path, workers[1], hidden=var, environment=credentials),
        ):
            pools = ",".join(f"{host.address}:{beam_engines.POOL_PORT}" for host in workers)
            args = ["--environment_type=EXTERNAL", f"--environment_config={pools}"]
            nodes(var, "publish", prefix=driver.prefix, **environment)
            nodes(var, "run", "bucket", *args, prefix=driver.prefix, **environment)
    assert_same(var, "bucket")


@pytest.mark.timeout(14_400)
def test_with_more_slots_many_rows_give_the_same(tmp_path):
    """Prints the seconds of each node in a process, and on worker pools of two hosts with 1, 2 and 4 slots."""
    var = tmp_path / "var"
    nodes(var, "prepare", str(MANY_ROWS))
    seconds = {"in process": timed(var, "here")}
    with ExitStack() as stack:
        driver, *workers = stack.enter_context(hosts(3))
        for host in workers:
            stack.enter_context(beam_engines.worker_pool(tmp_path, host))
        for slots in (1, 2, 4):
            pools = ",".join(f"{host.address}:{beam_engines.POOL_PORT}" for host in workers[:slots])
            args = ["--environment_type=EXTERNAL", f"--environment_config={pools}", f"--direct_num_workers={slots}"]
            seconds[f"{slots} slots"] = timed(var, f"slots-{slots}", *args, prefix=driver.prefix)
    for name, by_node in seconds.items():
        print(f"{MANY_ROWS:,} rows, {name}: {by_node}")
    for slots in (1, 2, 4):
        paths = [var / "pipeline/taxi/statistics/statistics" / run for run in ("here", f"slots-{slots}")]
        beam_same.assert_statistics(*paths)
        paths = [var / "pipeline/taxi/evaluator/evaluation" / run for run in ("here", f"slots-{slots}")]
        beam_same.assert_evaluation(*paths)


def timed(var: Path, run: str, *args: str, prefix=()) -> dict[str, float]:
    """Run the nodes; return the seconds of each. The examples are removed: those of 10,000,000 rows have 11 GB."""
    seconds = json.loads(nodes(var, "run", run, *args, prefix=prefix))
    for examples in ("examples/examples", "transform/transformed_examples"):
        shutil.rmtree(var / "pipeline/taxi" / examples / run)
    return seconds
