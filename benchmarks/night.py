"""A whole night through the Airflow scheduler, gates and release included, beside TFX's LocalDagRunner.

Each round has complaints of its own, the same file for both. Ours is measured from the trigger to the end of the run,
whose release was verified at the model server; TFX's is the wall time of a whole process with its imports. After their
first one, both compare the new model with the one released before.
"""

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import complaints
from benchmarks.common import Goal, Result, interleaved, main, say, spread
from benchmarks.project import DAG, Project, project


def run(quick: bool, folder: Path) -> Result:
    return measured(folder, 10_000, 100, 1) if quick else measured(folder, 100_000, 130, 2)


def measured(folder: Path, rows: int, steps: int, rounds: int) -> Result:
    """`steps` are of 512 rows. The first night of ours also warms the host; it is told apart."""
    found = side_by_side(folder, rows, steps, rounds)
    runs = [{"rows": rows, "side": side, **one} for side, several in found.items() for one in several]
    ours, theirs = ([one["seconds"] for one in found[side]] for side in ("ours", "tfx"))
    ratio = statistics.median(ours) / statistics.median(theirs)
    largest = {side: max(one["peak_mb"] for one in found[side]) for side in ("ours", "tfx")}
    goals = [
        Goal(f"night of {rows:,} rows, of LocalDagRunner's time", round(ratio, 3), "×", at_most=0.5),
        Goal(f"largest process of a night of {rows:,} rows", round(largest["ours"]), "MB", at_most=2048),
    ]
    whole = {
        "rows": f"{rows:,}",
        "steps": steps,
        "Airflow, s": spread(ours),
        "first night, cold, s": round(found["cold"][0]["seconds"], 1),
        "LocalDagRunner, s": spread(theirs),
        "ratio": round(ratio, 2),
        "largest process, MB": round(largest["ours"]),
        "LocalDagRunner's, MB": round(largest["tfx"]),
    }
    tables = {
        "Whole nights, the same rows, network and steps": [whole],
        "Each task of a night, its start by Airflow included, beside TFX's component": beside_tfx(found),
    }
    return Result(goals, tables, runs)


def side_by_side(folder: Path, rows: int, steps: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Nights of both, interleaved; `cold` is our first one."""
    with project(folder) as ours:

        def night(number: int) -> dict[str, Any]:
            write(ours.source, rows, number)
            return say_night("ours", checked(ours.night(DAG, **request(number, steps)), rows))

        def tfx_night(number: int) -> dict[str, Any]:
            write(ours.source, rows, number)
            return say_night("LocalDagRunner", local_dag_runner(ours, folder / "tfx", steps))

        cold = night(0)
        found = interleaved(rounds, ours=lambda n: night(n + 1), tfx=lambda n: tfx_night(n + 1))
    return {"cold": [cold], **found}


TFX = {"examples": "CsvExampleGen", "statistics": "StatisticsGen", "schema": "ImportSchemaGen"}
TFX |= {"example_validator": "ExampleValidator", "transform": "Transform", "trainer": "Trainer"}
TFX |= {"evaluator": "Evaluator", "release": "Pusher"}


def beside_tfx(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """A row for each task that ran; TFX has no component for some."""
    rows = []
    for task in found["ours"][0]["tasks"]:
        ours = [night["tasks"][task] for night in found["ours"]]
        if any(ours):
            theirs = [night["components"][TFX[task]] for night in found["tfx"]] if task in TFX else []
            in_tfx = {"TFX's": TFX[task], "it, s": spread(theirs)} if theirs else {}
            rows.append({"task": task, "ours, s": spread(ours), **in_tfx})
    return rows


def write(source: Path, rows: int, number: int) -> None:
    complaints.write(source, rows, seed=number, last_day=complaints.FIRST_DAY + dt.timedelta(days=number))


def request(number: int, steps: int) -> dict[str, Any]:
    """A night as of the day after its newest rows."""
    day = complaints.FIRST_DAY + dt.timedelta(days=number + 1)
    return {"as_of": f"{day}T00:00:00Z", "train_steps": steps, "release": "yes"}


def checked(night: dict[str, Any], rows: int) -> dict[str, Any]:
    """Raises RuntimeError for a night that did not release, or not on these rows."""
    if night["outcome"] != "RELEASED" or night["rows"] != rows:
        raise RuntimeError(f"the night should have released a model of {rows} rows: {night}")
    return night


def local_dag_runner(ours: Project, folder: Path, steps: int) -> dict[str, Any]:
    """TFX's night in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.tfx_pipeline", ours.source.parent, folder, str(steps)]
    began = time.monotonic()
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"LocalDagRunner failed:\n{(folder / 'log').read_text()[-4000:]}")
    found = json.loads(said.splitlines()[-1])
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024, **found}


def say_night(who: str, night: dict[str, Any]) -> dict[str, Any]:
    say("%s: %.1f s, at most %.0f MB", who, night["seconds"], night["peak_mb"])
    return night


if __name__ == "__main__":
    main(run)
