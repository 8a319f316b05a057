"""Folders of unfinished work, each owned by a process through a lock file inside.

When the owner has died, a later process removes its folder.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nightly.io.locks import has_owner, locked

LOCK = ".lock"
YOUNG_SECONDS = 60  # a folder may lack its lock for this long after its creation

_UNTIL_EXIT = contextlib.ExitStack()  # never closed: the kernel releases its locks


@contextlib.contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder in `parent`, and remove it with its content when the block ends."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    with locked(folder / LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def owned_until_exit(parent: Path, prefix: str) -> Path:
    """Return a new folder in `parent` that this process owns until it ends; `remove_abandoned` removes it then."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    _UNTIL_EXIT.enter_context(locked(folder / LOCK))
    return folder


def remove_abandoned(folders: Iterable[Path]) -> list[Path]:
    """Remove those of `folders` whose owner has died, and return them. Those of other users stay."""
    removed = []
    for folder in folders:
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS or has_owner(folder / LOCK):
                continue
            shutil.rmtree(folder)
            removed.append(folder)
    return removed
