"""Apply TF_CPP_MIN_LOG_LEVEL to all of TensorFlow's C++ log.

Two of TensorFlow's libraries log while they are loaded, before they read TF_CPP_MIN_LOG_LEVEL, so no setting filters
these lines. Instead, standard error goes through grep during the import. grep is a separate process, so the lines
before a crash are still shown.
"""

import ctypes
import importlib.abc
import importlib.machinery
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows all, 1 hides INFO, 2 also WARNING, 3 also ERROR
PREFACE = "WARNING: All log messages before absl::InitializeLog"
NO_DRIVER = r"E[0-9]{4} .*failed call to cuInit: .*\(303\)"  # harmless: the machine has no GPU driver
DRIVER = "libcuda.so.1"


def set_level() -> None:
    """Show only TensorFlow's native errors, from its import on, unless TF_CPP_MIN_LOG_LEVEL is set."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps TensorFlow's loader at its first import, and removes itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _load(module, load)  # type: ignore[method-assign]
        return spec


def _load(module: ModuleType, load: Callable[[ModuleType], None]) -> None:
    level = os.environ.setdefault(LEVEL, "2")
    letters = "IWE"[: int(level)] if level.isdecimal() else ""
    if not letters:
        load(module)
        return
    with _stderr_without(f"^({PREFACE}|[{letters}][0-9]{{4}} [0-9:.]+ +[0-9]+ |{NO_DRIVER})"):
        load(module)
        if not _has_driver():
            module.config.list_physical_devices("GPU")  # logs once a process that there is none, so it does that here


def _has_driver() -> bool:
    try:
        return bool(ctypes.CDLL(DRIVER))
    except OSError:
        return False


@contextmanager
def _stderr_without(pattern: str) -> Iterator[None]:
    """Drop lines that match `pattern` from file descriptor 2."""
    grep, own = shutil.which("grep"), None
    with suppress(OSError):  # standard error may be closed
        own = os.dup(2)
    if grep is None or own is None:
        yield
        return
    command = [grep, "-avE", pattern]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=own, start_new_session=True)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)
        with suppress(subprocess.TimeoutExpired):  # a child of the import may keep the pipe open
            reader.wait(timeout=5)
