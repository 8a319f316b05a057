"""What every benchmark shares: goals, measured forks, interleaved rounds, and the facts of the machine.

A benchmark is a module of this folder with a function `run(quick, folder) -> Result` and, at its end,
`if __name__ == "__main__": main(run)`. It runs as a process of its own, in a copy of the project (__main__.py), and
keeps all it writes in `folder`.
"""

import contextlib
import datetime as dt
import json
import os
import pickle
import platform
import resource
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
    """What is to be reached, and what was found. Give `at_most` or `at_least`; `found` is in `unit`."""

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
    tables: dict[str, list[dict[str, Any]]]  # by title: rows with the columns as keys; figures rounded as shown
    runs: list[dict[str, Any]]  # every single measurement, in the order it was made


class Measured(NamedTuple):
    """What a function gave in a process of its own."""

    value: Any
    seconds: float  # of the function, without the start of its process
    cpu_seconds: float  # of the process and what it started
    peak_mb: float  # the largest resident set of either, by the operating system


class ForkFailed(Exception):
    """The message is the child's traceback, or how it died."""


def forked(function: Callable[..., Any], *arguments: Any, log: Path | None = None) -> Measured:
    """Run `function` in a fork of this process, as the warm host runs a step; what it prints goes to `log`."""
    read, write = os.pipe()
    child = preloaded.fork(lambda: _run_child(function, arguments, write, log))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if not said:
        raise ForkFailed(f"{function.__name__} ended with {os.waitstatus_to_exitcode(status)}; its log is {log}")
    error, value, seconds = pickle.loads(said)
    if error:
        raise ForkFailed(error)
    return Measured(value, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _run_child(function: Callable[..., Any], arguments: tuple, pipe: int, log: Path | None) -> None:
    """Never returns."""
    try:
        os.setsid()
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(target, 1)
            os.dup2(target, 2)
        began = time.monotonic()
        try:
            said = (None, function(*arguments), time.monotonic() - began)
        except Exception:
            said = (traceback.format_exc(), None, 0.0)
        with os.fdopen(pipe, "wb") as out:
            out.write(pickle.dumps(said))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def warm() -> None:
    """Import what the warm host imports, so that forks begin as its steps do."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    preloaded.import_libraries()
    preloaded.ProjectCode().refresh()


def interleaved(rounds: int, **sides: Callable[[int], Any]) -> dict[str, list[Any]]:
    """What each side gave in each round. All take part in every round, and take turns in going first."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in names:
            found[name].append(sides[name](number))
    return found


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Median, and smallest to largest where there are several: 61.2 (60.8 to 63.0, 3 runs)."""
    values = sorted(values)
    median = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return f"{median} (1 run)"
    return f"{median} ({values[0]:,.{digits}f} to {values[-1]:,.{digits}f}, {len(values)} runs)"


def say(text: str, *values: Any) -> None:
    """A line of progress."""
    print(f"  {text % values if values else text}", flush=True)


def facts() -> dict[str, Any]:
    """The machine, the versions and the time of a measurement."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    from nightly.io.paths import ROOT

    for line in (ROOT / "requirements.txt").read_text().splitlines():  # Airflow has an environment of its own
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
    """The command line of a benchmark's module: FOLDER RESULT_FILE [--quick]."""
    folder, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that contexts end what they started
    began = time.monotonic()
    result = asdict(run("--quick" in sys.argv, folder))
    took = {"seconds": round(time.monotonic() - began), "facts": facts()}
    result_file.write_text(json.dumps(result | took, indent=1) + "\n")


def own_peak_mb() -> float:
    """This process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
