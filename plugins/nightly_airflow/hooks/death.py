"""Describes a step's process that ended without a result."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from nightly_airflow.pool import pool_of_steps

MB = 2**20


class Watch:
    """Observes the machine from a step's start, to explain why its process died."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._oom_kills = _oom_kills()

    def describe(self, step: str, status: int, memory: int | None, last_lines: Iterable[str]) -> str:
        """Return how the step ended, how long it ran, its memory, and its last log lines.

        :param status: the exit status; negative for a signal
        :param memory: the process's peak memory in bytes; None if not measured
        """
        ended = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        duration = dt.timedelta(seconds=round(time.monotonic() - self._began))
        text = f"{step}: its process {ended} after {duration} and left no result."
        if memory:
            text += f" It held up to {memory // MB:,} MB of memory."
        if status == -signal.SIGKILL:
            text += self._memory_now()
        lines = "\n".join(f"  {line}" for line in last_lines)
        return f"{text} Its last lines:\n{lines}" if lines else f"{text} It logged nothing."

    def _memory_now(self) -> str:
        before, now = self._oom_kills, _oom_kills()
        if before is not None and now is not None and now > before:
            return (
                f" The kernel's out-of-memory killer ended {now - before} processes of this machine meanwhile: "
                f"use a shorter look-back, or fewer steps at once (the pool `{pool_of_steps()}`)."
            )
        free = _available()
        no_kill = "" if before is None else " The kernel's out-of-memory killer ended no process meanwhile;"
        return f"{no_kill} {free // MB:,} MB are free now." if free is not None else no_kill


def _oom_kills() -> int | None:
    """Return how many processes the out-of-memory killer has ended since boot; None if unknown."""
    return _number(Path("/proc/vmstat"), "oom_kill")


def _available() -> int | None:
    """Return the memory available to a new process, in bytes; None if unknown."""
    kilobytes = _number(Path("/proc/meminfo"), "MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _number(path: Path, key: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value.split()[0])
    return None
