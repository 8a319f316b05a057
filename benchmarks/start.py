"""The time to start an ML task: forked from the warm host, against a process that imports everything."""

import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import Goal, Result, interleaved, main, say, spread
from benchmarks.project import end_hosts
from nightly.io.paths import Paths

ROUNDS, QUICK_ROUNDS = 5, 1
STEP = "benchmarks.start:ready_at"
# The imports that every step of a pipeline needs.
COLD = "from nightly.tfx import runner; from nightly.runtime import worker; import time; print(time.time())"


def ready_at(night_folder: Path, paths: Paths) -> dict[str, float]:
    """The measured step: import what a node needs, and return the time."""
    from nightly.tfx import runner  # noqa: F401

    return {"time": time.time()}


def run(quick: bool, folder: Path) -> Result:
    from nightly_airflow.hooks.ml import MLHook

    paths, log = Paths.from_environment(), logging.getLogger("start")

    def warm(_: int) -> float:
        began = time.time()
        return MLHook(paths=paths).run(STEP, folder, log)["time"] - began

    def cold(_: int) -> float:
        began = time.time()
        result = subprocess.run(
            [sys.executable, "-c", COLD], check=True, capture_output=True, text=True, env=os.environ
        )
        return float(result.stdout.splitlines()[-1]) - began

    try:
        first = warm(0)
        say("the first, which starts the host: %.1f s", first)
        seconds = interleaved(QUICK_ROUNDS if quick else ROUNDS, warm=warm, cold=cold)
    finally:
        end_hosts(paths)
    table = [
        {"started": "in a process of its own", "seconds": spread(seconds["cold"], 2)},
        {"started": "the first, with the warm host", "seconds": f"{first:.2f} (1 run)"},
        {"started": "every other, by the warm host", "seconds": spread(seconds["warm"], 2)},
    ]
    goal = Goal("start of an ML task after the first", round(statistics.median(seconds["warm"]), 3), "s", at_most=1)
    return Result([goal], {"Until an ML task can begin its work": table}, [{"first": first, **seconds}])


if __name__ == "__main__":
    main(run)
