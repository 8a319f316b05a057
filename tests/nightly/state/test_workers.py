"""What a job's workers read and write of the state, on hosts that share no disk, and in a folder."""

import os
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest

from nightly.examples.encoding import SPLITS, Encoding, Shards, add_counts, row_groups
from nightly.io.paths import Paths, python_path
from nightly.state import workers
from nightly.state.cache import Cache
from nightly.state.workers import PART, WorkerState, collect
from tests.nightly.state.conftest import read, write


@pytest.fixture(autouse=True)
def new_workers(monkeypatch):
    """Each worker is a process of its own: it has fetched nothing, and the driver's variables are not its own."""
    for name in ("NIGHTLY_STATE", "NIGHTLY_VAR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    workers._fetched.cache_clear()


def snapshot(folder, rows=1000):
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"id": range(rows), "label": [n % 2 for n in range(rows)]})
    frame.to_parquet(folder / "rows-00000.parquet", row_group_size=100)
    return folder


def shards(snapshot, output):
    encoding = Encoding(["id", "label"], ["id"], "label", eval_percent=20)
    outputs = {split: str(output / f"Split-{split}/data") for split in SPLITS}
    return Shards(encoding, str(snapshot), outputs, 10)


def test_in_a_folder_a_worker_writes_the_same_file_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    work = shards(snapshot(tmp_path / "snapshots/taxi/1"), tmp_path / "pipeline/taxi/examples/examples/1")
    groups = list(enumerate(row_groups(tmp_path / "snapshots/taxi/1")))
    counts = add_counts(map(work.write, groups))
    assert counts["train"] + counts["eval"] == 1000 and 100 < counts["eval"] < 300
    before = read(tmp_path / "pipeline")
    assert len(before) == 20
    work.write(groups[3])
    assert read(tmp_path / "pipeline") == before


def test_a_worker_that_dies_leaves_nothing_in_the_artifact(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    (tmp_path / f"{PART}of-a-dead-worker").touch()
    with pytest.raises(ZeroDivisionError), WorkerState().writing(tmp_path / "file") as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    collect(tmp_path)
    assert read(tmp_path) == {}


WORKER = """
import sys
from pathlib import Path
from nightly.state.workers import WorkerState
for content in sys.argv[1:]:
    WorkerState().fetch(content)
print([(Path(content) / "weights").exists() for content in sys.argv[1:]])
"""


def test_what_a_worker_has_fetched_stays_until_it_ends(hosts, monkeypatch):
    monkeypatch.setenv("NIGHTLY_CACHE_BYTES", "10")
    names = [f"pipeline/taxi/trainer/model/{n}" for n in range(3)]
    with hosts.on("a") as (state, var), state.session("taxi"):
        for n, name in enumerate(names):
            state.publish(write(var / name, {"weights": bytes([n]) * 1000}))
    with hosts.on("b") as (state, var):
        folders = [var / name for name in names]
        environment = {**os.environ, "PYTHONPATH": python_path()}
        worker = [sys.executable, "-c", WORKER, *map(str, folders)]
        assert subprocess.check_output(worker, env=environment, text=True) == "[True, True, True]\n"
        Cache().make_room()
        assert not any(folder.exists() for folder in folders)


def test_on_a_host_without_the_files_a_worker_fetches_and_hands_over(hosts, tmp_path):
    with hosts.on("driver") as (state, var):
        folder = snapshot(Paths.from_environment().snapshots / "taxi/1")
        state.publish(folder)
        output = Paths.from_environment().pipeline / "taxi/examples/examples/1"
        groups = list(enumerate(row_groups(folder)))
        work = shards(folder, output)
        (var.parent / "var").rename(var.parent / "hidden")  # the worker's host has the same paths, and not these files
        counts = add_counts(map(work.write, groups))
        assert counts["train"] + counts["eval"] == 1000
        assert pq.read_metadata(folder / "rows-00000.parquet").num_rows == 1000
        assert read(output) == {}, "a worker's host keeps nothing"
        collect(output)
        there = read(output)
        assert len(there) == 20
        assert not state.objects.list("parts")


def test_a_worker_whose_twin_hands_over_first_leaves_it_at_that(hosts):
    with hosts.on("worker") as (state, var):
        part = write(var / "pipeline/taxi/examples/examples/1", {"data": b"rows"}) / "data"
        state.hand_over(part)
        state.hand_over(part)
        assert [entry.key for entry in state.objects.list("parts")] == ["parts/pipeline/taxi/examples/examples/1/data"]
