"""Run one step of a night: python -m nightly.runtime.worker STEP NIGHT_FOLDER RESULT_FILE

The process that an Airflow task starts, by itself or as a fork of the warm host. What it logs goes to standard
error, a line each, as `LEVEL logger: message`; its result, or its error in one sentence, goes to RESULT_FILE. Where
that cannot be written, as on a full disk, it is the rest of a line that begins with the file's name.
"""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from nightly.io import variables
from nightly.io.atomic import write_atomically
from nightly.io.paths import Paths
from nightly.runtime.processes import end_with

log = logging.getLogger("nightly")
OURS = ("nightly", "nightly_server", "include")  # the loggers that tell the story of the night

# Steps that are not a node of the TFX pipeline.
STEPS = {
    "snapshot": "nightly.nights.snapshot:run",
    "data_gate_again": "nightly.runtime.judge_again:run",
    **{step: f"nightly.tfx.production:{step}" for step in ("evaluator", "model_gate", "release")},
}


def step_function(step: str) -> Callable[[Path, Paths], dict[str, Any]]:
    """The function that runs `step`, imported now: it takes the night's folder and the paths.

    :param step: a node of the pipeline, a key of STEPS, or any `package.module:function`
    """
    module, _, function = STEPS.get(step, step).partition(":")
    if function:
        return getattr(import_module(module), function)
    runner = import_module("nightly.tfx.runner")
    return lambda night_folder, paths: runner.run_node(step, night_folder, paths)


def describe(error: BaseException) -> str:
    """Return a step's error in one sentence, as it stands in the night's records."""
    return f"{type(error).__name__}: {error}"


def run(step: str, night_folder: Path, result_file: Path) -> int:
    """Run `step` and write what came of it; the exit status says whether it worked."""
    set_up_logging()
    began = time.monotonic()
    try:
        value = step_function(step)(night_folder, Paths.from_environment())
        result, status = {"value": value}, 0
        log.info("%s took %.1f s", step, time.monotonic() - began)
    except Exception as error:
        log.exception("%s failed after %.1f s", step, time.monotonic() - began)
        result, status = {"error": describe(error), "kind": type(error).__name__}, 1
    text = json.dumps(result)
    try:
        write_atomically(result_file, text.encode())
    except OSError as error:
        log.error("the result cannot be written (%s): it goes the way of the log", error)
        print(f"{result_file}: {text}", file=sys.stderr, flush=True)
    return status


def set_up_logging() -> None:
    """One line a message, for whoever streams it; the libraries' own chatter only with NIGHTLY_LOG_LEVEL=DEBUG."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    if root.level != logging.INFO:  # which the warm host has set already
        root.setLevel(logging.INFO)
    if variables.LOG_LEVEL.read().upper() == "DEBUG":
        log.setLevel(logging.DEBUG)
        return
    # On the handler, since TFX and Beam set the levels of these loggers themselves.
    handler.addFilter(lambda record: record.name.split(".")[0] in OURS or record.levelno >= logging.ERROR)
    warnings.filterwarnings("ignore")


if __name__ == "__main__":
    end_with(int(os.environ.pop("NIGHTLY_TASK_PID", os.getppid())))  # a task that is killed takes its step along
    sys.exit(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
