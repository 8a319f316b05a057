"""Differences between Linux and macOS, which has neither CPU affinity nor /proc."""

import os
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def socket_address(folder: int, path: Path) -> str:
    """Return the address of the Unix socket `path`, whose folder is open as the descriptor `folder`.

    A socket's address has at most 107 characters, and a path through the descriptor is always shorter.
    """
    return str(DESCRIPTORS / str(folder) / path.name) if DESCRIPTORS.exists() else str(path)
