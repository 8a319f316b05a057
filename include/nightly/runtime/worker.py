"""Run one step of a night: python -m nightly.runtime.worker STEP NIGHT_FOLDER RESULT_FILE

An Airflow task starts this process, either directly or as a fork of the warm host, and it works in the task's session
with the state. Where nobody has opened a session, as in a pod, it opens its own; NIGHT_FOLDER is MODEL/RUN then.

It logs to standard error, one `LEVEL logger: message` per line. It writes its result, or its error in one sentence, to
RESULT_FILE. If that fails, for example on a full disk, it writes the line `RESULT_FILE: result` to standard error.
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
from nightly.io.secrets import masked
from nightly.io.space import is_full_disk
from nightly.runtime.processes import end_with
from nightly.state import current

log = logging.getLogger("nightly")
OURS = ("nightly", "nightly_server", "include")  # the project's loggers

# Steps that are more than a node of the TFX pipeline.
STEP_FUNCTIONS = {
    "download": "nightly.nights.download:run",
    "snapshot": "nightly.nights.snapshot:run",
    "data_gate_again": "nightly.runtime.rerun_data_gate:run",
    **{step: f"nightly.tfx.production:{step}" for step in ("evaluator", "model_gate", "release")},
}


def step_function(step: str) -> Callable[[Path, Paths], dict[str, Any]]:
    """Import and return the function that runs `step`, called with the night's folder and the paths.

    :param step: a node of the pipeline, a key of STEP_FUNCTIONS, or any `package.module:function`
    """
    module, _, function = STEP_FUNCTIONS.get(step, step).partition(":")
    if function:
        return getattr(import_module(module), function)
    runner = import_module("nightly.tfx.runner")
    return lambda night_folder, paths: runner.run_node(step, night_folder, paths)


def describe(error: BaseException) -> str:
    """Return a step's error in one sentence, as the night's records store it."""
    return masked(f"{type(error).__name__}: {error}")


def run(step: str, night_folder: Path, result_file: Path) -> int:
    """Run `step`, write its result or error to `result_file`, and return the exit status.

    :param night_folder: absolute; or MODEL/RUN, which is in the session's nights
    """
    status, result = perform(step, night_folder)
    text = json.dumps(result)
    try:
        write_atomically(result_file, text.encode())
    except OSError as error:
        log.error("the result cannot be written to its file (%s): it follows in the log", error)
        print(f"{result_file}: {text}", file=sys.stderr, flush=True)
    return status


def perform(step: str, night_folder: Path) -> tuple[int, dict[str, Any]]:
    """Run `step`; return the exit status, and {"value": result} or its error and marks, as PodResult has them."""
    set_up_logging()
    began = time.monotonic()
    try:
        with current().session(night_folder.parent.name) as paths:
            value = step_function(step)(paths.nights / night_folder, paths)
        log.info("%s took %.1f s", step, time.monotonic() - began)
        return 0, {"value": value}
    except Exception as error:
        log.exception("%s failed after %.1f s", step, time.monotonic() - began)
        infrastructure = getattr(error, "infrastructure", is_full_disk(error))
        return 1, {"error": describe(error), "retry": getattr(error, "retry", True), "infrastructure": infrastructure}


def set_up_logging() -> None:
    """Log one line per message to stderr. Libraries' messages appear only with NIGHTLY_LOG_LEVEL=DEBUG."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masking("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    if root.level != logging.INFO:  # the warm host has set it already
        root.setLevel(logging.INFO)
    if variables.LOG_LEVEL.read().upper() == "DEBUG":
        log.setLevel(logging.DEBUG)
        return
    # Filter in the handler, because TFX and Beam set the levels of their loggers.
    handler.addFilter(lambda record: record.name.split(".")[0] in OURS or record.levelno >= logging.ERROR)
    warnings.filterwarnings("ignore")


class _Masking(logging.Formatter):
    """Masks passwords in messages and in tracebacks, where an error of a driver may quote its URI."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


if __name__ == "__main__":
    end_with(int(os.environ.pop("NIGHTLY_TASK_PID", os.getppid())))  # the step ends with its task
    sys.exit(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
