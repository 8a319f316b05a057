"""Copy a state: from a folder to a bucket, or back.

ML Metadata is no part of it: with a bucket it is in PostgreSQL. Without it, the first night computes everything anew.
"""

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from pathlib import Path

from nightly.io import variables
from nightly.io.atomic import write_atomically
from nightly.io.paths import RECORDS
from nightly.state.cache import Cache
from nightly.state.content import Content
from nightly.state.manifests import blob_key
from nightly.state.names import LARGE, is_among_records, is_hidden, is_record, local_path
from nightly.state.objects import Objects
from nightly.state.records import CONNECTIONS, record_key
from nightly.state.sweep import manifests, probe_lists

# Where content is below the state's folder.
CONTENT = ("snapshots/*/*", "baselines/*/*", "downloads/*/bodies/*", "serving/*/*", "pipeline/*/*/*/*")

TIMES_SECONDS = 1  # how exactly a bucket tells an object's time


@dataclass(frozen=True)
class Copied:
    """How much a copy has, what it had before included."""

    contents: int
    records: int


def to_bucket(folder: Path, objects: Objects) -> Copied:
    """Copy the state in `folder` to the bucket. Content that is there stays; records are replaced.

    Retention asks for the times of snapshots and of nights' records. So both are written in the order of their times.
    Raises ChangedElsewhereError if the bucket has other content of the same name.
    """
    with _only(folder):
        contents = sorted(_content(folder), key=_time)
        content = Content(objects, Cache(), fresh=timedelta(0))
        done: dict[Path, float] = {}  # folder of snapshots -> when the last of them was put, by the monotonic clock
        for path in contents:
            if path.is_relative_to(folder / "snapshots"):
                time.sleep(max(0, done.get(path.parent, -inf) + TIMES_SECONDS - time.monotonic()))
            content.put(_name(path, folder))
            done[path.parent] = time.monotonic()
        records = sorted((path for path in _records(folder) if is_record(_name(path, folder))), key=_time)

        def put(path: Path) -> None:
            objects.put(record_key(_name(path, folder)), path.read_bytes())

        of_nights = [path for path in records if path.is_relative_to(folder / "nights")]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(put, set(records) - set(of_nights)))
        for path in of_nights:
            put(path)
        shutil.rmtree(content.cache.folder)
    return Copied(len(contents), len(records))


def to_folder(objects: Objects, folder: Path) -> Copied:
    """Copy the state in the bucket to `folder`, each file checked by its SHA-256. Raises DamagedStateError.

    Folders and records get the times of their objects.
    """
    probe_lists(objects)
    folder.mkdir(parents=True, exist_ok=True)
    with _only(folder):
        cache = Cache()
        times = {entry.key: entry.modified.timestamp() for entry in objects.list("manifests")}
        stored = manifests(objects)
        for key, manifest in stored.items():
            with cache.in_use(manifest.name):
                cache.install(manifest, lambda sha256, path: objects.download(blob_key(sha256), path))
            if key in times:  # else it was published after the list
                os.utime(local_path(manifest.name), (times[key],) * 2)
        shutil.rmtree(cache.folder)
        entries = objects.list("records")
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for entry, record in zip(entries, pool.map(lambda entry: objects.get(entry.key), entries), strict=True):
                if record is not None:
                    path = local_path(entry.key.removeprefix(record_key("")))
                    write_atomically(path, record.data)
                    os.utime(path, (record.modified.timestamp(),) * 2)
    return Copied(len(stored), len(entries))


def _content(folder: Path) -> Iterator[Path]:
    for pattern in CONTENT:
        yield from (path for path in folder.glob(pattern) if not is_hidden(_name(path, folder)))
    yield from (path for path in _records(folder) if path.suffix == LARGE)


def _time(path: Path) -> tuple[float, str]:
    """Return what orders content and records. In one second, a night's verdict.json is after its other records."""
    return path.stat().st_mtime, path.name


def _records(folder: Path) -> Iterator[Path]:
    for top in RECORDS:
        for path in (folder / top).rglob("*"):
            name = _name(path, folder)
            if path.is_file() and is_among_records(name) and not is_hidden(name):
                yield path


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


@contextmanager
def _only(folder: Path) -> Iterator[None]:
    """Have `folder` be the only folder of state."""
    names = [variables.SESSION.name, *(variable.name for variable in variables.FOLDER_VARIABLES.values())]
    before = dict(os.environ)
    os.environ.update({variables.VAR.name: str(folder.absolute()), variables.STATE.name: ""})
    for name in names:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
