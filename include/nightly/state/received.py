"""Files that others put into the bucket, each an object of its own: logged predictions, and labels that come later.

    predictions/<model>/<file>
    feedback/<model>/<file>

Who writes them needs nothing of this project: any upload of a whole file will do. A host that reads them keeps copies.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from nightly.state.errors import ChangedElsewhereError, PreconditionFailedError
from nightly.state.objects import Entry, Objects

CONNECTIONS = 8
KEPT_SECONDS = 86_400  # how long a copy stays that nobody selects; another task may be reading it


def receive(objects: Objects, name: str, folder: Path, select: Callable[[str, datetime], bool]) -> None:
    """Download the selected files of the bucket's folder `name` into `folder`, and give them their objects' times."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = {entry.key.removeprefix(f"{name}/"): entry for entry in objects.list(name)}
    entries = {file: entry for file, entry in listed.items() if "/" not in file and not file.startswith(".")}
    due = {file: entry for file, entry in entries.items() if select(file, entry.modified)}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has just completed or removed it
            is_old = path.stat().st_ctime < time.time() - KEPT_SECONDS
            is_spared = path.name.startswith(".") or path.name in entries.keys() - due.keys()
            if is_old if is_spared else path.name not in due:
                path.unlink()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda each: _download(objects, each[1], folder / each[0]), due.items()))


def send(objects: Objects, name: str, path: Path) -> None:
    """Create the object `name` with the file's content. Raises ChangedElsewhereError if it has other content."""
    data = path.read_bytes()
    try:
        objects.create(name, data)
    except PreconditionFailedError:
        existing = objects.get(name)
        if existing is not None and existing.data != data:
            raise ChangedElsewhereError(
                f"{objects.address} has another {name} already; give {path} another name."
            ) from None


def _download(objects: Objects, entry: Entry, path: Path) -> None:
    moment = entry.modified.timestamp()
    with contextlib.suppress(FileNotFoundError):
        state = path.stat()
        if (state.st_size, state.st_mtime) == (entry.bytes, moment):
            return
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if objects.download(entry.key, new) is not None:  # else it was deleted after the list
            os.utime(new, (moment, moment))
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
