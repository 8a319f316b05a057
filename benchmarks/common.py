"""Shared by all benchmarks: goals, measured forks, interleaved rounds, and facts of the machine.

A benchmark is a module of this folder with a function `run(quick, folder) -> Result` and, at its end,
`if __name__ == "__main__": main(run)`. It runs in its own process, in a copy of the project (__main__.py), and writes
only to `folder`.
"""

import contextlib
import datetime as dt
import json
import os
import pickle
import platform
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from nightly.runtime import preloaded

PACKAGES = (
    "tensorflow",
    "keras",
    "tfx",
    "tensorflow-data-validation",
    "apache-beam",
    "ml-metadata",
    "pyarrow",
    "numpy",
)


@dataclass
class Goal:
    """A goal and its measured value `found`, in `unit`. Set `at_most` or `at_least`."""

    what: str
    found: float
    unit: str  # ×, s, MB, …
    at_most: float | None = None
    at_least: float | None = None
    met: bool = field(init=False)

    def __post_init__(self) -> None:
        self.met = (self.at_most is None or self.found <= self.at_most) and (
            self.at_least is None or self.found >= self.at_least
        )


@dataclass
class Result:
    """A benchmark's outcome."""

    goals: list[Goal]
    tables: dict[str, list[dict[str, Any]]]  # title -> rows; each row maps columns to values, rounded for display
    runs: list[dict[str, Any]]  # every measurement, in order


class Measured(NamedTuple):
    """The result of a function in its own process."""

    value: Any
    seconds: float  # of the function, without the start of the process
    cpu_seconds: float  # of the process and its children
    peak_mb: float  # the largest resident set of any of them


class ForkFailed(Exception):
    """The child failed; the message is its traceback, or how it ended."""


def forked(function: Callable[..., Any], *arguments: Any, log: Path | None = None) -> Measured:
    """Run `function` in a fork of this process, as the warm host runs a step; its output goes to `log`."""
    read, write = os.pipe()
    child = preloaded.fork(lambda: _run_child(function, arguments, write, log))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        message = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if not message:
        raise ForkFailed(f"{function.__name__} ended with {os.waitstatus_to_exitcode(status)}; its log is {log}")
    error, value, seconds = pickle.loads(message)
    if error:
        raise ForkFailed(error)
    return Measured(value, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _run_child(function: Callable[..., Any], arguments: tuple, pipe: int, log: Path | None) -> None:
    """Run `function`, send its result to `pipe`, and exit; never return."""
    try:
        os.setsid()
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(target, 1)
            os.dup2(target, 2)
        began = time.monotonic()
        try:
            message = (None, function(*arguments), time.monotonic() - began)
        except Exception:
            message = (traceback.format_exc(), None, 0.0)
        with os.fdopen(pipe, "wb") as out:
            out.write(pickle.dumps(message))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def warm() -> None:
    """Import what the warm host imports, so that forks start like its steps."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    preloaded.import_libraries()
    preloaded.ProjectCode().refresh()


def interleaved(rounds: int, **sides: Callable[[int], Any]) -> dict[str, list[Any]]:
    """Run each side once in every round; return their values by round. The order alternates between rounds."""
    values: dict[str, list[Any]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in names:
            values[name].append(sides[name](number))
    return values


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Return the median, and the range of several values: 61.2 (60.8 to 63.0, 3 runs)."""
    values = sorted(values)
    median = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return f"{median} (1 run)"
    return f"{median} ({values[0]:,.{digits}f} to {values[-1]:,.{digits}f}, {len(values)} runs)"


def say(text: str, *values: Any) -> None:
    """Print a line of progress."""
    print(f"  {text % values if values else text}", flush=True)


def facts() -> dict[str, Any]:
    """Return the machine, the versions and the time of a measurement."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    from nightly.io.paths import ROOT

    for line in (ROOT / "requirements.txt").read_text().splitlines():  # Airflow is in another environment
        if line.startswith("apache-airflow=="):
            versions["apache-airflow"] = line.split("==")[1].split()[0]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "code": os.environ.get("NIGHTLY_CODE_VERSION", "unknown"),
        "cpu": model.split(":")[1].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "versions": versions,
    }


def main(run: Callable[[bool, Path], Result]) -> None:
    """Run the command line of a benchmark's module: FOLDER RESULT_FILE [--quick]."""
    folder, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that context managers stop their processes
    began = time.monotonic()
    result = asdict(run("--quick" in sys.argv, folder))
    details = {"seconds": round(time.monotonic() - began), "facts": facts()}
    result_file.write_text(json.dumps(result | details, indent=1) + "\n")
