"""Records in a bucket, and a private copy of a model's records: that of a session, or of the web page.

A copy's folder has the records by their names, and `.index-<model>.json`: name -> the version in the bucket that the
file is of, and the file's size, time and inode then. This tells which files the session wrote, and what they replace.

Versions of records are kept in <var>/cache/records/<model>/: a copy links to those that it has in common with others.
The time of a record's file is that of its object.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from nightly.io.atomic import write_atomically
from nightly.io.locks import locked
from nightly.state.content import Content
from nightly.state.errors import ChangedElsewhereError, PreconditionFailedError
from nightly.state.manifests import manifest_key, name_of_key
from nightly.state.names import PREFIXES, STUBS, is_hidden, is_record, local_path
from nightly.state.objects import Entry

log = logging.getLogger("nightly")

CONNECTIONS = 16
FORGET_SECONDS = 600  # a younger version may be of a session that has not linked to it yet
INDEX = ".index-"
CHANGED = "{} was changed by another host meanwhile, so this change of it is lost; run the step again."
Index = dict[str, list[Any]]


def record_key(name: str) -> str:
    return f"records/{name}"


class Copy:
    """A copy of one model's records in `folder`.

    :ivar content: for large files among the records, and stubs
    """

    def __init__(self, folder: Path, model: str, content: Content) -> None:
        self.folder = folder
        self.model = model
        self.content = content
        self.objects = content.objects
        self.versions = content.cache.folder / "records" / model
        self._index_path = folder / f"{INDEX}{model}.json"

    @property
    def exists(self) -> bool:
        return self._index_path.exists()

    def refresh(self, below: str = "") -> None:
        """Bring the records and stubs whose names begin with `below` to the bucket's; keep what was written here."""
        self.versions.mkdir(parents=True, exist_ok=True)
        keys = [record_key(prefix.format(self.model)) for prefix in PREFIXES]
        keys += [manifest_key(f"{top}/{self.model}").removesuffix(".json") for top in ("nights", *STUBS)]
        keys = [key for key in keys if _overlap(key.partition("/")[2], below)]
        if not Path(below).suffix:  # a folder: list no more than it
            keys = [max(key, f"{key.partition('/')[0]}/{below}", key=len) for key in keys]
        with ThreadPoolExecutor(CONNECTIONS) as pool, self._index() as index:
            listed = chain.from_iterable(pool.map(self.objects.list, keys))
            entries = [entry for entry in listed if _overlap(_name(entry), below)]
            records = {_name(entry): entry for entry in entries if entry.key.startswith("records/")}
            manifests = {_name(entry): entry for entry in entries if entry.key.startswith("manifests/")}
            stubs = {name: entry for name, entry in manifests.items() if name.split("/")[0] in STUBS}
            large = {name: entry for name, entry in manifests.items() if name not in stubs}
            self._check_out({**records, **large}, below, index, pool)
            fetched = zip(stubs.items(), pool.map(self._version, stubs.values()), strict=True)
            complete = {
                name: (path.read_bytes(), entry.modified) for (name, entry), path in fetched if path is not None
            }
            if any(_overlap(f"{top}/{self.model}", below) for top in STUBS):
                self.content.list_stubs(self.model, complete)
            if not below:
                self._forget([*records.values(), *manifests.values()])
        self._make_folders()

    def push(self, below: str) -> None:
        """Write the record, or the records in this folder, to the bucket now. Raises ChangedElsewhereError."""
        self._push_changes(below)

    def commit(self) -> None:
        """Write to the bucket what was written here, in that order, and delete what was deleted here.

        The records of downloaded parts are first. Raises ChangedElsewhereError at the end if another host has changed
        one of these records.
        """
        self._push_changes("")

    # --- from the bucket

    def _check_out(self, entries: dict[str, Entry], below: str, index: Index, pool: ThreadPoolExecutor) -> None:
        for name in [name for name in index if _overlap(name, below) and name not in entries]:
            if not self._is_changed(name, index):
                (self.folder / name).unlink(missing_ok=True)
                del index[name]
        due = {name: entry for name, entry in entries.items() if self._is_due(name, entry, index)}
        small = [name for name in due if is_record(name)]
        for name, version in zip(small, pool.map(self._version, [due[name] for name in small]), strict=True):
            if version is not None:
                self._place(name, version)
                index[name] = [due[name].etag, *_stamp(self.folder / name)]
        for name in due.keys() - set(small):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(local_path(name))
            index[name] = [due[name].etag, *_stamp(path)]

    def _is_due(self, name: str, entry: Entry, index: Index) -> bool:
        if name not in index:
            return not os.path.lexists(self.folder / name)
        return index[name][0] != entry.etag and not self._is_changed(name, index)

    def _place(self, name: str, version: Path) -> None:
        """Put a version of a record at its path, at once. What is appended to is a copy."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".new-{os.getpid()}-{path.name}")
        new.unlink(missing_ok=True)
        if path.suffix == ".json":
            _link_or_copy(version, new)
        else:
            shutil.copy2(version, new)
        new.replace(path)
        new.unlink(missing_ok=True)

    def _version(self, entry: Entry) -> Path | None:
        """Return a file with this version of an object, or the present version; None if it was deleted."""
        path = self.versions / _version_name(entry)
        if path.exists():
            return path
        current = self.objects.get(entry.key)
        if current is None:
            return None
        moment = int(current.modified.timestamp())
        path = self.versions / _version_name(Entry(entry.key, current.etag, 0, current.modified))
        write_atomically(path, current.data, durable=False, modified=moment)
        return path

    def _forget(self, entries: Iterable[Entry]) -> None:
        """Remove the versions that the bucket no longer has, if no copy has them."""
        known = {_version_name(entry) for entry in entries}
        for file in os.scandir(self.versions):
            if file.name not in known:
                with contextlib.suppress(FileNotFoundError):
                    state = file.stat()
                    if state.st_nlink == 1 and state.st_ctime < time.time() - FORGET_SECONDS:
                        Path(file).unlink()

    def _make_folders(self) -> None:
        for prefix in PREFIXES:
            (self.folder / prefix.format(self.model)).mkdir(parents=True, exist_ok=True)
        bodies = self.folder / "downloads" / self.model / "bodies"
        if not bodies.is_symlink():
            local_path(f"downloads/{self.model}/bodies").mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                bodies.symlink_to(local_path(f"downloads/{self.model}/bodies"))

    # --- to the bucket

    def _push_changes(self, below: str) -> None:
        problems: list[str] = []
        with self._index() as index, ThreadPoolExecutor(CONNECTIONS) as pool:

            def push(name: str) -> None:
                try:
                    self._push(name, index)
                except ChangedElsewhereError as error:
                    problems.append(str(error))

            changed = [name for name in self._names(index) if _is_in(name, below) and self._is_changed(name, index)]
            parts = [name for name in changed if name.startswith("downloads/")]  # hundreds, which the others refer to
            list(pool.map(push, parts))
            for name in sorted(set(changed) - set(parts), key=self._time):
                push(name)
        if problems:
            raise ChangedElsewhereError(" ".join(problems))

    def _push(self, name: str, index: Index) -> None:
        path = self.folder / name
        if not is_record(name):
            self._push_large(name, index)
        elif not path.exists():
            if name in index:  # else it came and went while this looked
                self._delete(name, index[name][0])
                del index[name]
        else:
            stamp, data = _stamp(path), path.read_bytes()
            index[name] = [self._write(name, data, index.get(name, [""])[0]), *stamp]

    def _write(self, name: str, data: bytes, etag: str) -> str:
        """Replace the version `etag` of a record, or create it; return the new version."""
        key = record_key(name)
        try:
            return self.objects.swap(key, data, etag) if etag else self.objects.create(key, data)
        except PreconditionFailedError:
            current = self.objects.get(key)
            if current is not None and current.data == data:  # this host's write, whose answer was lost
                return current.etag
            raise ChangedElsewhereError(CHANGED.format(name)) from None

    def _delete(self, name: str, etag: str) -> None:
        """Delete the version `etag` of a record. Stores have no delete of one version: it is compared just before."""
        current = self.objects.head(record_key(name))
        if current is not None and current.etag != etag:
            raise ChangedElsewhereError(CHANGED.format(name))
        self.objects.delete(record_key(name))

    def _push_large(self, name: str, index: Index) -> None:
        """Publish a large file among the records as content, in the place of an earlier one."""
        path, target = self.folder / name, local_path(name)
        self.content.remove(name)
        if path.is_file() and not path.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, target)
            self.content.publish(name)
            index[name] = ["", *_stamp(path)]
        else:
            index.pop(name, None)

    # --- the index

    @contextlib.contextmanager
    def _index(self) -> Iterator[Index]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / f"{INDEX}{self.model}.lock"):
            index = json.loads(self._index_path.read_bytes()) if self.exists else {}
            try:
                yield index
            finally:
                write_atomically(self._index_path, json.dumps(index).encode(), durable=False)

    def _names(self, index: Index) -> set[str]:
        """Return the names of all files here, and of those that were here."""
        names = set(index)
        for prefix in PREFIXES:
            for folder, _, files in os.walk(self.folder / prefix.format(self.model)):
                relative = Path(folder).relative_to(self.folder).as_posix()
                names |= {f"{relative}/{file}" for file in files}
        return {name for name in names if not is_hidden(name)}

    def _is_changed(self, name: str, index: Index) -> bool:
        return name not in index or index[name][1:] != _stamp(self.folder / name)

    def _time(self, name: str) -> tuple[int, int]:
        """Return what orders the changes: writes by their time, then deletions."""
        stamp = _stamp(self.folder / name)
        return (0, stamp[1]) if stamp else (1, 0)


def _name(entry: Entry) -> str:
    if entry.key.startswith("manifests/"):
        return name_of_key(entry.key)
    return entry.key.partition("/")[2]


def _is_in(name: str, folder: str) -> bool:
    return not folder or f"{name}/".startswith(f"{folder}/")


def _overlap(name: str, other: str) -> bool:
    """Return whether one of two names is the other, or is below it."""
    return _is_in(name, other) or _is_in(other, name)


def _stamp(path: Path) -> list[int]:
    """Return what changes when a file is written; [] if there is none."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        return []
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def _version_name(entry: Entry) -> str:
    return hashlib.sha1(f"{entry.key}\n{entry.etag}\n{int(entry.modified.timestamp())}".encode()).hexdigest()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)
