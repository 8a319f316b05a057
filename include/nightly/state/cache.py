"""This host's copies of a bucket's content, and the cache of their files by SHA-256.

<var>/cache/
  blobs/<sha256>         files of content; a content's files are hard links of them
  contents/<name>.json   of each content that this host has: its manifest's digest, and its files' sizes and times
  records/<model>/       records by version (nightly.state.records)
  sessions/              open sessions, and workers of jobs, with the names of the content that they hold
  view/                  the records as the web page sees them

A content's copy is used again while its files have the sizes and times that they had when they were verified. A blob
is hashed each time that a content is made of it. The cache is bounded: what was used last stays, and what an open
session holds.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nightly.io import variables
from nightly.io.atomic import write_atomically
from nightly.io.files import hash_file
from nightly.io.locks import has_owner, locked
from nightly.io.owned import LOCK, owned_folder, remove_abandoned
from nightly.io.space import check_space
from nightly.state.errors import DamagedStateError, StateAddressError
from nightly.state.manifests import WHOLE, File, Manifest
from nightly.state.names import STUBS, host_paths, local_path

log = logging.getLogger("nightly")

BUILDING = ".building-"


class Cache:
    """The cache of this host."""

    def __init__(self) -> None:
        self.folder = host_paths().var / "cache"
        self.blobs = self.folder / "blobs"
        self.sessions = self.folder / "sessions"
        self.make_folders()

    def make_folders(self) -> None:
        """Make the cache's folders if they do not exist: somebody may delete them at any time."""
        for folder in (self.blobs, self.sessions, self.folder / "contents"):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def in_use(self, name: str) -> Iterator[None]:
        """Let no other process of this host build, complete or evict the content `name`."""
        with locked(self.folder / ".lock", shared=True), locked(self._marker(name).with_suffix(".lock")):
            yield

    def has(self, manifest: Manifest) -> bool:
        """Return whether this host has the content complete and unchanged; then mark it as used."""
        marker = self._read(manifest.name)
        if marker.get("digest") != manifest.digest or marker["files"].keys() != manifest.files.keys():
            return False
        path = local_path(manifest.name)
        if any(_stamp(path / name) != stamp for name, stamp in marker["files"].items()):
            return False
        os.utime(self._marker(manifest.name))
        return True

    def knows(self, name: str) -> bool:
        """Return whether this host's copy of the content, or its stub, is one of the bucket's."""
        return self._marker(name).exists()

    def digest(self, name: str) -> str:
        """Return the digest of the manifest of this host's copy, or its stub; "" if it has neither."""
        return self._read(name)["digest"]

    def install(self, manifest: Manifest, download: Callable[[str, Path], str | None], *, stub: bool = False) -> None:
        """Make the content, verified, at its path. Raises DamagedStateError. The caller is in `in_use`.

        :param download: writes a blob to a new file and returns its SHA-256, or None if the bucket has no such blob
        :param stub: only the files that are in the manifest
        """
        target = local_path(manifest.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        files = {name: file for name, file in manifest.files.items() if file.text is not None or not stub}
        missing = {file.sha256: file.bytes for file in files.values() if file.text is None and not self._has_blob(file)}
        if missing:
            remedy = f"Make room, or lower {variables.CACHE_BYTES.name}."
            check_space({self.folder: sum(missing.values())}, f"fetching {manifest.name}", remedy=remedy)
        with owned_folder(self.folder, BUILDING) as building:
            sources = {name: self._source(manifest, name, building, download) for name in files}
            if target.exists() or WHOLE in files:
                _complete(target, sources, manifest)
            else:
                _complete(building / "whole", sources, manifest)
                target.parent.mkdir(parents=True, exist_ok=True)
                (building / "whole").rename(target)
        self.mark(manifest, files)

    def mark(self, manifest: Manifest, files: Any = None) -> None:
        """Write down that this host has these files of the content, or all of them."""
        path = local_path(manifest.name)
        stamps = {name: _stamp(path / name) for name in (manifest.files if files is None else files)}
        marker = {
            "digest": manifest.digest,
            "files": stamps,
            "inline": _inline(manifest),
            "blobs": list(manifest.blobs),
        }
        write_atomically(self._marker(manifest.name), json.dumps(marker).encode(), durable=False)

    def keep(self, manifest: Manifest) -> None:
        """Have the cache share the files of a content of this host."""
        for name, file in manifest.files.items():
            if file.text is None and not self._has_blob(file):
                _link(local_path(manifest.name) / name, self.blobs / file.sha256)

    def drop(self, name: str) -> None:
        """Remove this host's copy of the content, at once for readers of its folder."""
        path = local_path(name)
        if path.is_dir() and not path.is_symlink():
            with owned_folder(self.folder, BUILDING) as removed, contextlib.suppress(FileNotFoundError):
                path.rename(removed / "whole")
        else:
            path.unlink(missing_ok=True)
        self._marker(name).unlink(missing_ok=True)

    def known(self, prefix: str) -> set[str]:
        """Return the names of the content directly below `prefix` that this host has."""
        folder = self.folder / "contents" / prefix
        return {f"{prefix}/{path.name.removesuffix('.json')}" for path in folder.glob("*.json")}

    # --- its bound

    def make_room(self, bytes_needed: int = 0, keep: str = "") -> None:
        """Evict what was not used for the longest time, until the cache and `bytes_needed` are within its bound.

        While another process builds a content, nothing is evicted: it calls this when it is done.

        :param keep: the name of a content that stays, whether or not a session holds it
        """
        limit = _limit()
        with contextlib.suppress(BlockingIOError), locked(self.folder / ".lock", wait=False):
            remove_abandoned(self.folder.glob(f"{BUILDING}*"))
            sizes = {entry.name: entry.stat() for entry in os.scandir(self.blobs)}
            excess = sum(state.st_size for state in sizes.values()) + bytes_needed - limit
            if excess <= 0:
                return
            excess -= self._evict([name for name, state in sizes.items() if state.st_nlink == 1], excess)
            held = {*self.held(), keep}
            markers = [path for path in (self.folder / "contents").rglob("*.json") if path.is_file()]
            for path in sorted(markers, key=lambda path: path.stat().st_mtime):
                name = path.relative_to(self.folder / "contents").as_posix().removesuffix(".json")
                if excess > 0 and name not in held:
                    excess -= self._evict_content(name, excess)
            if excess > 0:
                log.warning(
                    "the cache in %s is %s bytes above %s: its content is in use",
                    *(self.folder, f"{excess:,}", variables.CACHE_BYTES.name),
                )

    def hold(self, session: Path, name: str) -> None:
        """Keep the content in the cache until the session ends."""
        folder = session / ".held"
        folder.mkdir(exist_ok=True)
        (folder / name.replace("/", "\n")).touch()

    def held(self) -> set[str]:
        """Return the names of the content that open sessions hold."""
        alive = (folder for folder in self.sessions.iterdir() if has_owner(folder / LOCK))
        return {path.name.replace("\n", "/") for folder in alive for path in (folder / ".held").glob("*")}

    def _evict_content(self, name: str, excess: int) -> int:
        marker = self._read(name)
        if name.split("/")[0] in STUBS:
            path = local_path(name)
            for each in marker["files"].keys() - set(marker["inline"]):
                (path / each).unlink(missing_ok=True)
            marker["files"] = {each: marker["files"][each] for each in marker["inline"] if each in marker["files"]}
            write_atomically(self._marker(name), json.dumps(marker).encode(), durable=False)
        else:
            self.drop(name)
        log.info("%s is not kept on this host any more; the bucket has it", name)
        return self._evict(marker["blobs"], excess)

    def _evict(self, hashes: list[str], excess: int) -> int:
        """Remove these blobs, if no content has them; return how many bytes that freed."""
        freed = 0
        with contextlib.suppress(FileNotFoundError):
            for sha256 in hashes:
                path = self.blobs / sha256
                if freed < excess and path.exists() and path.stat().st_nlink == 1:
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    # --- its files

    def _source(self, manifest: Manifest, name: str, building: Path, download: Callable[[str, Path], Any]) -> Path:
        """Return a verified file with the content of a manifest's file."""
        file = manifest.files[name]
        if file.text is not None:
            return _inlined(file, building / f"inline-{file.sha256}", manifest.name)
        path = self.blobs / file.sha256
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == file.bytes and hash_file(path) == file.sha256:
                return path
            log.warning("%s was changed, and is downloaded again", path)
            path.unlink()
        mine = local_path(manifest.name) / name
        if mine.is_file() and mine.stat().st_size == file.bytes and hash_file(mine) == file.sha256:
            return _link(mine, path)
        new = building / file.sha256
        actual = download(file.sha256, new)
        if actual is None:
            raise DamagedStateError(f"The bucket has no blob {file.sha256}, which is {name} of {manifest.name}.")
        if actual != file.sha256:
            raise DamagedStateError(
                f"The bucket's blob {file.sha256}, which is {name} of {manifest.name}, has other bytes: their SHA-256 "
                f"is {actual}."
            )
        new.chmod(0o644)
        new.replace(path)
        return path

    def _has_blob(self, file: File) -> bool:
        return (self.blobs / file.sha256).exists()

    def _marker(self, name: str) -> Path:
        return self.folder / "contents" / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads(self._marker(name).read_bytes())
        except (FileNotFoundError, ValueError):
            return {"digest": "", "files": {}, "inline": [], "blobs": []}


def _complete(target: Path, sources: dict[str, Path], manifest: Manifest) -> None:
    """Make the folder or file `target` of these files."""
    if WHOLE not in manifest.files:
        target.mkdir(exist_ok=True)
        for folder in manifest.folders:
            (target / folder).mkdir(parents=True, exist_ok=True)
        for path in target.rglob("*"):
            if not path.is_dir() and path.relative_to(target).as_posix() not in manifest.files:
                path.unlink()
    for name, source in sources.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or not path.samefile(source):
            _link(source, path)


def _link(source: Path, target: Path) -> Path:
    """Link the file `source` to `target`, or copy it to another file system; return `target`."""
    new = target.with_name(f".link-{uuid.uuid4().hex}")
    try:
        try:
            os.link(source, new)
        except OSError:
            shutil.copyfile(source, new)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)  # also if it is a link of the same file, which a rename leaves
    return target


def _inlined(file: File, path: Path, name: str) -> Path:
    data = (file.text or "").encode()
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise DamagedStateError(f"The manifest of {name} has other bytes than it says.")
    path.write_bytes(data)
    path.chmod(0o644)
    return path


def _inline(manifest: Manifest) -> list[str]:
    return [name for name, file in manifest.files.items() if file.text is not None]


def _stamp(path: Path) -> list[int]:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [state.st_size, state.st_mtime_ns]


def _limit() -> int:
    text = variables.CACHE_BYTES.read()
    try:
        return int(text)
    except ValueError:
        raise StateAddressError(f"{variables.CACHE_BYTES.name} is {text!r}; give a number of bytes.") from None
