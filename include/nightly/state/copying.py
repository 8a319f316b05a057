"""Copy a state: from a folder to a bucket, or back.

ML Metadata is no part of it: with a bucket it is in PostgreSQL. Without it, the first night computes everything anew.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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
from nightly.state.sweep import manifests

# Where content is below the state's folder.
CONTENT = ("snapshots/*/*", "baselines/*/*", "downloads/*/bodies/*", "serving/*/*", "pipeline/*/*/*/*")


@dataclass(frozen=True)
class Copied:
    """How much a copy has, what it had before included."""

    contents: int
    records: int


def to_bucket(folder: Path, objects: Objects) -> Copied:
    """Copy the state in `folder` to the bucket. Content that is there stays; records are replaced.

    Raises ChangedElsewhereError if the bucket has other content of the same name.
    """
    with _only(folder):
        names = sorted({_name(path, folder) for path in _content(folder)})
        content = Content(objects, Cache())
        for name in names:
            content.put(name)
        records = [path for path in _records(folder) if is_record(_name(path, folder))]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            ordered = sorted(records, key=lambda path: path.stat().st_mtime)
            list(pool.map(lambda path: objects.put(record_key(_name(path, folder)), path.read_bytes()), ordered))
        shutil.rmtree(content.cache.folder)
    return Copied(len(names), len(records))


def to_folder(objects: Objects, folder: Path) -> Copied:
    """Copy the state in the bucket to `folder`, each file checked by its SHA-256. Raises DamagedStateError."""
    folder.mkdir(parents=True, exist_ok=True)
    with _only(folder):
        cache = Cache()
        stored = manifests(objects)
        for manifest in stored.values():
            with cache.in_use(manifest.name):
                cache.install(manifest, lambda sha256, path: objects.download(blob_key(sha256), path))
        shutil.rmtree(cache.folder)
        entries = objects.list("records")
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for entry, record in zip(entries, pool.map(lambda entry: objects.get(entry.key), entries), strict=True):
                if record is not None:
                    path = local_path(entry.key.removeprefix(record_key("")))
                    write_atomically(path, record.data)
                    os.utime(path, (record.modified.timestamp(),) * 2)  # retention asks for times
    return Copied(len(stored), len(entries))


def _content(folder: Path) -> Iterator[Path]:
    for pattern in CONTENT:
        yield from (path for path in folder.glob(pattern) if not is_hidden(_name(path, folder)))
    yield from (path for path in _records(folder) if path.suffix == LARGE)


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
