"""Seconds and memory by rows: of our steps in process, and of TFX's on Beam's direct runner."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import steps
from benchmarks.common import Goal, Measured, Result, main, say, warm

SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
ON_BEAM = (10_000, 100_000)  # large_night has TFX's components at 1,000,000
QUICK = (10_000, 30_000)
STEPS = ("snapshot", *steps.TO_DATA_GATE, "transform", "trainer", "evaluator")
STREAMED = ("snapshot", *steps.TO_DATA_GATE, "transform")  # up to the training step
TRAIN_STEPS = 50
TFX = {"examples": "CsvExampleGen", "statistics": "StatisticsGen", "transform": "Transform", "evaluator": "Evaluator"}
LIMIT_MB = 2048


def run(quick: bool, folder: Path) -> Result:
    warm()
    sizes = QUICK if quick else SIZES
    beam_sizes = sizes if quick else ON_BEAM
    measured: dict[int, dict[str, Measured]] = {}
    beam_seconds: dict[int, dict[str, float]] = {}
    for rows in sizes:
        size_folder = folder / str(rows)
        night = steps.planned(size_folder, rows, TRAIN_STEPS)
        measured[rows] = steps.run(size_folder, night, STEPS)
        say("%s rows in process: %.1f s", f"{rows:,}", sum(step.seconds for step in measured[rows].values()))
        if rows in beam_sizes:
            beam_seconds[rows] = on_beam(size_folder)
            say("%s rows on Beam: %.1f s", f"{rows:,}", sum(beam_seconds[rows].get(name, 0) for name in TFX.values()))
        shutil.rmtree(size_folder)
    seconds = [
        {"rows": f"{rows:,}"}
        | {f"{step}, s": round(measured[rows][step].seconds, 1) for step in TFX}
        | {f"{name}, s": round(beam_seconds[rows][name], 1) if rows in beam_seconds else "" for name in TFX.values()}
        for rows in sizes
    ]
    memory = [{"rows": f"{rows:,}"} | {step: round(measured[rows][step].peak_mb) for step in STEPS} for rows in sizes]
    goals = [
        Goal(f"largest process at {rows:,} rows", round(_largest(measured[rows], STEPS)), "MB", at_most=LIMIT_MB)
        for rows in sizes
        if rows >= 1_000_000 or quick
    ]
    smallest = sizes[1] if not quick else sizes[0]  # 100,000: with fewer rows, the libraries dominate
    growth = _largest(measured[sizes[-1]], STREAMED) / _largest(measured[smallest], STREAMED)
    what = f"memory up to the training step, {sizes[-1]:,} rows against {smallest:,}"
    goals.append(Goal(what, round(growth, 2), "×", at_most=1.5))
    runs: list[dict[str, Any]] = [
        {"rows": rows, "step": name, "seconds": step.seconds, "cpu_seconds": step.cpu_seconds, "peak_mb": step.peak_mb}
        for rows, steps_of_size in measured.items()
        for name, step in steps_of_size.items()
    ]
    runs += [{"rows": rows, "beam": seconds_by_component} for rows, seconds_by_component in beam_seconds.items()]
    tables = {"Seconds of a step in this process, and of TFX's on Beam's direct runner": seconds}
    return Result(goals, {**tables, "Largest resident set of a step's process, MB": memory}, runs)


def _largest(steps_by_name: dict[str, Measured], names: tuple[str, ...]) -> float:
    return max(steps_by_name[name].peak_mb for name in names)


def on_beam(folder: Path) -> dict[str, float]:
    """Run TFX's pipeline over the same file; return the seconds of each component."""
    command = [sys.executable, "-m", "benchmarks.tfx_pipeline", folder / "source", folder / "tfx", str(TRAIN_STEPS)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr[-4000:])
    return json.loads(result.stdout.splitlines()[-1])["components"]


if __name__ == "__main__":
    main(run)
