"""Whole nights whose tasks run on two hosts in turn: a bucket and a database are all that the hosts share."""

import itertools
import os
import signal
import subprocess
import sys

import pytest

from nightly.cli import night as nights
from nightly.cli import replay, snapshots
from nightly.io.files import hash_file
from nightly.io.paths import ROOT
from nightly.records.reuse import Reuse
from nightly.records.verdict import Outcome, Verdict
from nightly.runtime import whole_night
from nightly.state import current, fetch
from nightly.tfx.metadata import Execution, NightlyMetadata
from nightly.tfx.reuse import REUSABLE
from nightly.tfx.runner import run_node
from tests.support.two_hosts import flip, two_hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NIGHT = ["taxi", "--as-of", "2015-05-01", "--train-steps", "60"]
HERE = "tests.nightly.runtime.test_nights_on_two_hosts"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory, buckets, database):
    with two_hosts(tmp_path_factory.mktemp("hosts"), buckets, database) as running:
        yield running


@pytest.fixture(scope="module")
def run_night(hosts):
    """Run a night whose every task is on the next of these hosts; return its run id."""

    def run(*args, on="AB", lose=False):
        order = itertools.cycle(on)

        def next_host():
            hosts.on(next(order))
            if lose:
                hosts.lose(hosts.host)
            return current()

        with hosts.session("A") as paths:
            before = {path.name for path in (paths.nights / "taxi").iterdir()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(whole_night, "current", next_host)
            patch.setattr(nights, "current", next_host)
            assert nights.main([*NIGHT, *args]) == 0
        with hosts.session("A") as paths:
            (name,) = {path.name for path in (paths.nights / "taxi").iterdir()} - before
        return name

    return run


@pytest.fixture(scope="module")
def first(run_night):
    return run_night()


def test_a_night_whose_every_second_task_is_on_the_other_host_is_accepted(hosts, first, capsys):
    for host in "AB":
        with hosts.session(host) as paths:
            folder = paths.nights / "taxi" / first
            assert Verdict.load(folder / "verdict.json").outcome == Outcome.ACCEPTED
            assert {"request.json", "download.json", "snapshot.json", "data_gate.json", "model_gate.json"} <= {
                path.name for path in folder.iterdir()
            }
            assert str(hosts.var / "snapshots") in (folder / "snapshot.json").read_text()
            assert "/cache/sessions/" not in "".join(path.read_text() for path in folder.glob("*.json"))
        hosts.on(host)
        assert snapshots.main(["verify", "taxi"]) == 0 and replay.main(["taxi"]) == 0
    assert "1 snapshots of taxi are as their manifests say" in capsys.readouterr().out


def test_the_next_night_on_either_host_reuses_what_both_have_computed(hosts, first, run_night):
    again = run_night(on="B")
    with hosts.session("A") as paths:
        reuse = {
            task: path
            for task in REUSABLE
            if (path := paths.nights / "taxi" / again / Reuse.FILE.format(task)).exists()
        }
        assert {task: Reuse.load(path).run_id for task, path in reuse.items()} == dict.fromkeys(reuse, first)
        assert {"examples", "statistics", "transform", "trainer", "evaluator"} <= reuse.keys()


def test_a_night_needs_nothing_that_a_host_had(hosts, first, run_night):
    again = run_night("--fresh", "--until", "data_gate", lose=True)
    with hosts.session("A") as paths:
        assert (paths.nights / "taxi" / again / "data_gate.json").exists()


def test_a_snapshot_that_is_damaged_in_the_bucket_is_made_again_there(hosts, first):
    (key,) = hosts.keys("manifests/snapshots/taxi/")
    with hosts.session("A") as paths:
        (folder,) = (paths.snapshots / "taxi").iterdir()
        fetch(folder)
        (shard,) = folder.glob("rows-*.parquet")
        hosts.change(f"blobs/{hash_file(shard)}", flip)
    hosts.lose("B")
    with hosts.session("B") as paths:
        assert run_node("data_gate", paths.nights / "taxi" / first, paths)["passed"]
        assert hosts.keys("manifests/snapshots/taxi/") == [key]
    hosts.lose("A")
    hosts.on("A")
    assert snapshots.main(["verify", "taxi"]) == 0


def die_before_the_metadata_knows(night_folder, paths):
    """A step: `statistics`, killed when its outputs are published and ML Metadata does not yet say so."""
    from nightly.tfx.runner import NightlyLauncher

    NightlyLauncher._publish_successful_execution = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    run_node("statistics", night_folder, paths)


def test_a_step_whose_host_died_is_retried_on_the_other_and_leaves_nothing_behind(hosts, first, run_night, tmp_path):
    name = run_night("--fresh", "--until", "examples")
    hosts.on("A")
    command = [sys.executable, "-m", "nightly.runtime.worker", f"{HERE}:die_before_the_metadata_knows", f"taxi/{name}"]
    killed = subprocess.run([*command, str(tmp_path / "result.json")], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = set(hosts.keys("manifests/pipeline/taxi/statistics/"))
    with hosts.session("B") as paths, NightlyMetadata(paths, "taxi") as handle:
        run = handle.store.get_context_by_type_and_name("pipeline_run", name)
        (died,) = (
            execution
            for execution in handle.store.get_executions_by_context(run.id)
            if execution.last_known_state == Execution.RUNNING
        )
        assert f"manifests/pipeline/taxi/statistics/statistics/{died.id}.json" in left
    with hosts.session("B") as paths:
        assert run_node("statistics", paths.nights / "taxi" / name, paths)
        with NightlyMetadata(paths, "taxi") as handle:
            (died,) = handle.store.get_executions_by_id([died.id])
            assert died.last_known_state == Execution.CANCELED
    assert f"manifests/pipeline/taxi/statistics/statistics/{died.id}.json" not in hosts.keys("manifests/pipeline/")
