"""Atomic and durable writes: readers see the complete file or none, and it survives a power cut."""

import os
import tempfile
from pathlib import Path
from typing import IO, Any


def write_atomically(path: Path, data: bytes, *, durable: bool = True, modified: int | None = None) -> None:
    """Write `data` to a temporary file beside `path`, sync it, and rename it to `path`.

    :param durable: False: do not sync; a power cut may leave an older, an empty or no file
    :param modified: the file's modification time, in Unix seconds; None: now
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            if durable:
                sync_file(file)
        if modified is not None:  # before others can see the file, or link it
            os.utime(temporary, (modified, modified))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_path(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append a line durably to a file, which is created if missing."""
    with path.open("a") as file:
        file.write(f"{line}\n")
        sync_file(file)


def sync_file(file: IO[Any]) -> None:
    """Make what was written to the open `file` survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Make the content of a file, or the renames inside a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
