"""Unfinished work that belongs to a process while it lives: a later process removes it once its owner has died.

A lock file inside says so.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nightly.io.locks import has_owner, locked

LOCK = ".lock"
YOUNG_SECONDS = 60  # between the making of a folder and its lock


@contextlib.contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` that is removed at the end, with what is in it."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    with locked(folder / LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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
