"""Locks between processes. The kernel releases a lock when its holder ends in any way, so they need no time-out."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def locked(
    path: Path, *, wait: bool = True, on_wait: Callable[[], object] = lambda: None, shared: bool = False
) -> Iterator[TextIO]:
    """Hold the lock file at `path` until the block ends; create it if missing.

    The holder may remove the file. Who waited for it then locks the new file at `path`, as a later process does.

    :param shared: other processes may hold it at the same time, if they share it, too
    :param wait: False: raise BlockingIOError if another process holds the lock
    :param on_wait: called before waiting for another process
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            _lock(file.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait, on_wait)
            if _is_at(path, file):
                yield file
                return


def has_owner(path: Path) -> bool:
    """Return whether a process holds the lock file at `path`."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_at(path: Path, file: TextIO) -> bool:
    """Return whether the open `file` is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int, wait: bool, on_wait: Callable[[], object]) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        on_wait()
        fcntl.flock(descriptor, kind)
