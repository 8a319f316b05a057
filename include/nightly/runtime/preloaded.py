"""What a warm process has imported before a step begins: the libraries, once, and the project's code, as it is now.

Neither the user's own code, the model's folder, is among it, nor anything that reads the environment when it is
imported: a fork has its task's environment only later.
"""

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue

from nightly.runtime.processes import end_with

LIBRARIES = (
    "pyarrow.csv",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic.json_schema",
    "pydantic.types",
    "google_crc32c",
    "pyarrow.acero",  # Arrow, when something is grouped
    "setuptools",  # TFX, when the first artifact is made
    "tomllib",
    "apache_beam.runners.portability.portable_runner",
    "apache_beam.runners.worker.worker_pool_main",
    "tensorflow",
    "tensorflow_data_validation",
    "tensorflow_transform.beam",
    "tensorflow_model_analysis",
    "tfx.v1",
    "tfx.orchestration.portable.launcher",
    "tfx.orchestration.local.runner_utils",
    "tfx.components.transform.executor",
    "tfx.components.trainer.executor",
    "tfx.components.evaluator.executor",
    "tensorflow_serving.apis.prediction_log_pb2",
)
STEPS = ("nightly.runtime.worker", "nightly.tfx.runner", "nightly.nights.snapshot")  # with all that they import
PROJECT = ("nightly.", "nightly_client.", "include.")  # the packages that these import of the project
CLOCK_NS = 100_000_000  # a file system's clock is behind by less

log = logging.getLogger("nightly.host")


def import_libraries() -> None:
    for name in LIBRARIES:
        import_module(name)
    # pydantic imports its parts, and looks for plugins in all packages, when the first model is made.
    import_module("pydantic").create_model("Warm", field=(int, 0))
    logging.getLogger().setLevel(logging.INFO)  # the steps' level: setting another writes to every logger there is
    _keep()


def fork(work: Callable[[], None]) -> int:
    """Fork a child that does `work` and ends; returns its process id. It is killed when this process ends.

    From a thread of its own, which becomes the child's main thread: glibc gives it an arena of its own to allocate in.
    The main thread's, with the holes that importing left everywhere, is shared, and each page written to is copied.
    Raises OSError where there can be no other process.
    """
    answer: SimpleQueue[int | OSError] = SimpleQueue()
    threading.Thread(target=_fork, args=(work, answer), daemon=True).start()
    child = answer.get()
    if isinstance(child, OSError):
        raise child
    return child


def _fork(work: Callable[[], None], answer: SimpleQueue[int | OSError]) -> None:
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        answer.put(error)
        return
    if child:
        answer.put(child)
        threading.Event().wait()  # for ever: `end_with` holds for the thread that forked
    try:
        end_with(parent)
        work()
    finally:
        os._exit(1)  # `work` has ended the process, unless it failed


class ProjectCode:
    """The project's modules in this process."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int] | None] = {}

    def refresh(self) -> None:
        """Import the project's code, or import it anew if a file of it has changed.

        Where that fails nothing of it stays imported: the step then fails by itself, and says so in its own log.
        """
        if self._files and all(state and state == _state(file) for file, state in self._files.items()):
            return
        if self._files:
            _forget()
        began = time.time_ns() - CLOCK_NS
        try:
            for name in STEPS:
                import_module(name)
            _prepare()
        except Exception:
            log.warning("the project's code cannot be imported", exc_info=True)
            _forget()
            self._files = {}
            return
        files = [str(sys.modules[name].__file__) for name in _imported()]
        # A file that changed meanwhile may have been read before or after it did.
        self._files = {file: state if (state := _state(file)) and state[0] < began else None for file in files}
        _keep()


def _prepare() -> None:
    """What every step would do again: build pydantic's models, and look which source imports which."""
    import_module("nightly.records.base").build_contracts()
    import_module("nightly.io.code").sources_of(STEPS)


def _imported() -> list[str]:
    return [
        name for name, module in sys.modules.items() if name.startswith(PROJECT) and getattr(module, "__file__", None)
    ]


def _forget() -> None:
    for name in _imported():
        if name != __name__:
            del sys.modules[name]


def _state(file: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = Path(file).stat()
        return found.st_ctime_ns, found.st_size
    return None


def _keep() -> None:
    """Keep forks from copying the pages that these objects lie in."""
    gc.collect()
    gc.freeze()
