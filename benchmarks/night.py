"""A whole night through the Airflow scheduler, gates and release included, beside TFX's LocalDagRunner.

Each round has new complaints, the same file for both. Our time is from the trigger to the end of the run, including the
verification of the release at the model server. TFX's is the wall time of a whole process with its imports. After the
first night, both compare the new model with the one released before.
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
    """Measure both sides. A step has 512 rows. Our first night also warms the host, and is listed separately."""
    nights_by_side = side_by_side(folder, rows, steps, rounds)
    runs = [{"rows": rows, "side": side, **night} for side, nights in nights_by_side.items() for night in nights]
    ours, theirs = ([night["seconds"] for night in nights_by_side[side]] for side in ("ours", "tfx"))
    ratio = statistics.median(ours) / statistics.median(theirs)
    largest = {side: max(night["peak_mb"] for night in nights_by_side[side]) for side in ("ours", "tfx")}
    goals = [
        Goal(f"night of {rows:,} rows, of LocalDagRunner's time", round(ratio, 3), "×", at_most=0.5),
        Goal(f"largest process of a night of {rows:,} rows", round(largest["ours"]), "MB", at_most=2048),
    ]
    whole = {
        "rows": f"{rows:,}",
        "steps": steps,
        "Airflow, s": spread(ours),
        "first night, cold, s": round(nights_by_side["cold"][0]["seconds"], 1),
        "LocalDagRunner, s": spread(theirs),
        "ratio": round(ratio, 2),
        "largest process, MB": round(largest["ours"]),
        "LocalDagRunner's, MB": round(largest["tfx"]),
    }
    tables = {
        "Whole nights, the same rows, network and steps": [whole],
        "Each task of a night, its start by Airflow included, beside TFX's component": beside_tfx(nights_by_side),
    }
    return Result(goals, tables, runs)


def side_by_side(folder: Path, rows: int, steps: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run nights of both sides, interleaved; `cold` is our first night."""
    with project(folder) as ours:

        def night(number: int) -> dict[str, Any]:
            write(ours.source, rows, number)
            return say_night("ours", checked(ours.night(DAG, **request(number, steps)), rows))

        def tfx_night(number: int) -> dict[str, Any]:
            write(ours.source, rows, number)
            return say_night("LocalDagRunner", local_dag_runner(ours, folder / "tfx", steps))

        cold = night(0)
        nights_by_side = interleaved(rounds, ours=lambda n: night(n + 1), tfx=lambda n: tfx_night(n + 1))
    return {"cold": [cold], **nights_by_side}


TFX = {"examples": "CsvExampleGen", "statistics": "StatisticsGen", "schema": "ImportSchemaGen"}
TFX |= {"example_validator": "ExampleValidator", "transform": "Transform", "trainer": "Trainer"}
TFX |= {"evaluator": "Evaluator", "release": "Pusher"}


def beside_tfx(nights_by_side: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """Return a table row for each task that ran, beside TFX's component if there is one."""
    rows = []
    for task in nights_by_side["ours"][0]["tasks"]:
        ours = [night["tasks"][task] for night in nights_by_side["ours"]]
        if any(ours):
            theirs = [night["components"][TFX[task]] for night in nights_by_side["tfx"]] if task in TFX else []
            in_tfx = {"TFX's": TFX[task], "it, s": spread(theirs)} if theirs else {}
            rows.append({"task": task, "ours, s": spread(ours), **in_tfx})
    return rows


def write(source: Path, rows: int, number: int) -> None:
    complaints.write(source, rows, seed=number, last_day=complaints.FIRST_DAY + dt.timedelta(days=number))


def request(number: int, steps: int) -> dict[str, Any]:
    """Return the request of a night as of the day after its newest rows."""
    day = complaints.FIRST_DAY + dt.timedelta(days=number + 1)
    return {"as_of": f"{day}T00:00:00Z", "train_steps": steps, "release": "yes"}


def checked(night: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return the night. Raise RuntimeError if it did not release, or has another number of rows."""
    if night["outcome"] != "RELEASED" or night["rows"] != rows:
        raise RuntimeError(f"the night should have released a model of {rows} rows: {night}")
    return night


def local_dag_runner(ours: Project, folder: Path, steps: int) -> dict[str, Any]:
    """Run TFX's night in its own process."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.tfx_pipeline", ours.source.parent, folder, str(steps)]
    began = time.monotonic()
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"LocalDagRunner failed:\n{(folder / 'log').read_text()[-4000:]}")
    result = json.loads(output.splitlines()[-1])
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024, **result}


def say_night(who: str, night: dict[str, Any]) -> dict[str, Any]:
    say("%s: %.1f s, at most %.0f MB", who, night["seconds"], night["peak_mb"])
    return night


if __name__ == "__main__":
    main(run)
