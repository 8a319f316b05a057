"""Unfinished work that belongs to a process while it lives: a later process removes it once its owner has died.

A lock file inside says so. The kernel gives the lock back however the owner ends, so no time-out has to be guessed.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

LOCK = ".lock"
YOUNG_SECONDS = 60  # between the making of a folder and its lock


@contextlib.contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` that is removed at the end, with what is in it."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    with own(folder / LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, which is made, until the end."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Hold the folder itself, without a file in it, until the end."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def has_owner(path: Path) -> bool:
    """Whether a process holds the lock file at `path`."""
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove_abandoned(folders: Iterable[Path]) -> list[Path]:
    """Remove those of `folders` whose owner has died; returns them. Another user's stay."""
    removed = []
    for folder in folders:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS or has_owner(folder / LOCK):
                continue
            shutil.rmtree(folder)
            removed.append(folder)
    return removed
