"""Preload the libraries, and the project's current code, in a process that forks steps.

The models' folders are not preloaded, nor is any module that reads the environment when imported: a fork gets its
task's environment later.
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
    "pyarrow.acero",  # imported by Arrow at the first group_by
    "setuptools",  # imported by TFX for the first artifact
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
MODULES = ("nightly.runtime.worker", "nightly.tfx.runner", "nightly.nights.snapshot")  # and everything they import
PREFIXES = ("nightly.", "nightly_client.", "nightly_server.", "include.")  # of the project's own modules
CLOCK_NS = 100_000_000  # an upper bound of the lag of a file system's clock

log = logging.getLogger("nightly.host")


def import_libraries() -> None:
    for name in LIBRARIES:
        import_module(name)
    # pydantic imports its parts, and searches all packages for plugins, when the first model is created.
    import_module("pydantic").create_model("Warm", field=(int, 0))
    logging.getLogger().setLevel(logging.INFO)  # as in the steps: changing a level touches every logger
    _freeze()


def fork(work: Callable[[], None]) -> int:
    """Fork a child that does `work` and ends, and return its process id. It is killed when this process ends.

    The fork happens in a new thread, which becomes the child's main thread and gets its own malloc arena from glibc.
    The old main thread's arena is fragmented by the imports and shared, so each write there would copy a page.
    Raises OSError if no process can be created.
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
        threading.Event().wait()  # forever: `end_with` ties the child to this thread
    try:
        end_with(parent)
        work()
    finally:
        os._exit(1)  # `work` ends the process itself, unless it fails


class ProjectCode:
    """The project's modules in this process."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int] | None] = {}

    def refresh(self) -> None:
        """Import the project's code, or reimport it if a file has changed.

        If that fails, none of it stays imported. The step then fails with the same error in its own log.
        """
        if self._files and all(state and state == _state(file) for file, state in self._files.items()):
            return
        if self._files:
            _forget()
        began = time.time_ns() - CLOCK_NS
        try:
            for name in MODULES:
                import_module(name)
            _prepare()
        except Exception:
            log.warning("the project's code cannot be imported", exc_info=True)
            _forget()
            self._files = {}
            return
        files = [str(sys.modules[name].__file__) for name in _imported()]
        # A file that changed during the import may have been read before or after the change.
        self._files = {file: state if (state := _state(file)) and state[0] < began else None for file in files}
        _freeze()


def _prepare() -> None:
    """Do what every step would repeat: build pydantic's models, and find which source imports which."""
    import_module("nightly.records.base").build_contracts()
    import_module("nightly.io.code").sources_of(MODULES)


def _imported() -> list[str]:
    return [
        name for name, module in sys.modules.items() if name.startswith(PREFIXES) and getattr(module, "__file__", None)
    ]


def _forget() -> None:
    for name in _imported():
        if name != __name__:
            del sys.modules[name]


def _state(file: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        stat = Path(file).stat()
        return stat.st_ctime_ns, stat.st_size
    return None


def _freeze() -> None:
    """Freeze the garbage collector's objects, so that forks do not copy their pages."""
    gc.collect()
    gc.freeze()
