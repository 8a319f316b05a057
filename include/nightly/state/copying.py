"""Copy a state: from a folder to a bucket, or back.

ML Metadata is no part of it: with a bucket it is in PostgreSQL. Without it, the first night computes everything anew.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nightly.io import variables
from nightly.io.atomic import write_atomically
from nightly.io.paths import RECORDS
from nightly.records.night import Download
from nightly.state.cache import Cache
from nightly.state.content import Content
from nightly.state.manifests import blob_key
from nightly.state.names import LARGE, is_among_records, is_hidden, is_record, local_path
from nightly.state.objects import Objects
from nightly.state.records import CONNECTIONS, record_key
from nightly.state.sweep import manifests, probe_lists

# Where content is below the state's folder.
CONTENT = ("snapshots/*/*", "baselines/*/*", "downloads/*/bodies/*", "serving/*/*", "pipeline/*/*/*/*")

CONTENTS = 4  # at the same time; each uploads several blobs
TIMES_SECONDS = 1  # how exactly a bucket tells an object's time
NEWEST = 5  # downloads of a model whose order retention asks for


@dataclass(frozen=True)
class Copied:
    """How much a copy has, what it had before included."""

    contents: int
    records: int


def to_bucket(folder: Path, objects: Objects) -> Copied:
    """Copy the state in `folder` to the bucket. Content that is there stays; records are replaced.

    Retention asks for the times of a model's snapshots and downloads, and of a night's records. So each of these are
    written in the order of their times: a night's verdict comes after its other records, and these after all content.
    Raises ChangedElsewhereError if the bucket has other content of the same name.
    """
    with _only(folder):
        contents = [_name(path, folder) for path in sorted(_content(folder), key=_time)]
        records = [_name(path, folder) for path in sorted(_records(folder), key=_time)]
        records = [name for name in records if is_record(name)]
        content = Content(objects, Cache(), fresh=timedelta(0))

        def put(name: str) -> None:
            objects.put(record_key(name), (folder / name).read_bytes())

        with ThreadPoolExecutor(CONTENTS) as pool:
            ordered, rest = _split(contents, "snapshots/")
            _put(pool, content.put, _groups(ordered, 2), apart=len(ordered))
            _put(pool, content.put, [[name] for name in rest])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            ordered, rest = _split(records, "nights/")
            before, downloads, after = _phases(_groups(ordered, 3))
            _put(pool, put, [*([name] for name in rest), *before])
            _put(pool, put, _groups([name for name in ordered if name in downloads], 2), apart=NEWEST)
            _put(pool, put, after)
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


def _split(names: list[str], top: str) -> tuple[list[str], list[str]]:
    """Return the names below the folder `top`, and the others."""
    return [name for name in names if name.startswith(top)], [name for name in names if not name.startswith(top)]


def _groups(names: list[str], depth: int) -> list[list[str]]:
    """Return the names by their first `depth` folders, each group in the order of `names`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("/".join(name.split("/")[:depth]), []).append(name)
    return list(groups.values())


def _phases(nights: list[list[str]]) -> tuple[list[list[str]], set[str], list[list[str]]]:
    """Return each night's records before its download.json, all of these, and each night's records after it.

    Only their download.json orders the nights of a model, so nights can be copied at the same time before and after.
    """
    before, downloads, after = [], set(), []
    for night in nights:
        at = next((n for n, name in enumerate(night) if name.endswith(f"/{Download.FILE}")), len(night))
        before.append(night[:at])
        downloads |= set(night[at : at + 1])
        after.append(night[at + 1 :])
    return before, downloads, after


def _put(
    pool: ThreadPoolExecutor, put: Callable[[str], object], groups: Iterable[Sequence[str]], apart: int = 0
) -> None:
    """Put all groups at the same time, and the names of a group one after another.

    :param apart: the last so many names of a group get different times
    """

    def put_group(names: Sequence[str]) -> None:
        for number, name in enumerate(names):
            if number and len(names) - number < apart:
                time.sleep(TIMES_SECONDS)
            put(name)

    list(pool.map(put_group, groups))


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
