"""The temporary folder of one step: it goes with the step, or with the next night where the task was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "nightly-step-"
YOUNG_SECONDS = 60  # between the folder's making and its lock


@contextlib.contextmanager
def scratch_folder(step: str) -> Iterator[Path]:
    """A folder that is removed at the end, with all that the step's process left in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{step.rpartition(':')[2]}-"))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned() -> list[Path]:
    """Remove the scratch folders whose task is gone; returns them."""
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or removed meanwhile
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                removed.append(folder)
            finally:
                os.close(descriptor)
    return removed
