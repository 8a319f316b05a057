"""Local files: they are listed, hashed, and read where they are."""

import datetime as dt
import errno
import functools
import glob
import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from nightly.io.files import hash_file
from nightly.io.paths import Paths
from nightly.records.night import DownloadedFile
from nightly.sources.base import Fetched, Part
from nightly.sources.errors import NothingFoundError, PathNotFoundError, UnreadableFileError
from nightly.sources.files.formats import READABLE, compression_of, is_hidden, kind_of, suffix_of
from nightly.sources.files.listing import Globs, Listing, tell_missing
from nightly.sources.files.tables import LOG, METADATA, refuse_tables

ZIP_MAGIC = b"PK\x03\x04"
PACKAGE = "package:"
LOST = "lost+found"  # of a disk, which only root may read


@dataclass(frozen=True)
class LocalFiles:
    """A file, a folder, or `package:NAME/PATH` in the ML environment, with globs and dates."""

    listing: Listing
    connections: ClassVar[int] = 1

    def parts(self) -> list[Part]:
        pattern, whole, literal = self.listing.pattern, self._whole, self._is_literal
        root, folder, paths = self._root, self._folder, self._paths
        try:
            matches = {path: self._files(path, folder) for path in paths}
        except PermissionError as error:
            raise UnreadableFileError(f"{error.filename} may not be read by this user.") from error
        if not any(matches.values()) and (literal or not pattern.step):
            raise _nothing(whole, root)
        if not literal and pattern.step:
            tell_missing([str(path) for path, files in matches.items() if not files])
        files = {file: paths[path] for path, files in matches.items() for file in files}
        if not root.is_file():
            refuse_tables(_logs({parent for file in files for parent in file.parents if parent.is_relative_to(root)}))
        return [self._part(file, folder, files[file]) for file in sorted(files)]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        raise NotImplementedError(f"{part.name} is read where it is")

    def lost(self, name: str) -> Part | None:
        file = Path(name)
        if self._is_literal:
            path = self._whole if file.is_relative_to(self._whole) else None
        else:
            match = self._globs.match(name)
            path = Path(match) if match is not None else None
        if path is None or not self.listing.is_readable(str(file.relative_to(self._folder))):
            return None
        return self._part(file, self._folder, self._paths[path])

    @cached_property
    def _whole(self) -> Path:
        return _local(self.listing.pattern.text)

    @cached_property
    def _is_literal(self) -> bool:
        return self._whole.exists()  # a name may have the characters of a glob

    @cached_property
    def _root(self) -> Path:
        return self._whole if self._is_literal else _local(self.listing.pattern.root)

    @property
    def _folder(self) -> Path:
        return self._root.parent if self._root.is_file() else self._root

    @cached_property
    def _paths(self) -> dict[Path, dt.datetime | None]:
        """Each path of the window -> when its date ends, or None if it has no date."""
        if self._is_literal:
            return {self._whole: None}
        return {_local(path): end for path, end in self.listing.paths().items()}

    @cached_property
    def _globs(self) -> Globs:
        return Globs(map(str, self._paths))

    def _files(self, path: Path, root: Path) -> set[Path]:
        """Return the readable files at a path: a file, all files of a folder, or what a glob of either matches."""
        if path.is_file():
            return {path} if self.listing.format or kind_of(path.name) else set()
        tops = [path]
        if not path.exists():
            tops = [Path(top) for top in glob.glob(str(path), recursive=True)]  # noqa: PTH207
            _refuse_unreadable(path, root)
        files = {file for top in tops for file in ([top] if top.is_file() else _below(top, root)) if file.is_file()}
        return {file for file in files if self.listing.is_readable(str(file.relative_to(root)))}

    def _part(self, file: Path, root: Path, end: dt.datetime | None) -> Part:
        suffix = suffix_of(file.name, self.listing.format) if self.listing.format else ""
        return Part(
            str(file), suffix, end=end, path=file, partition=self.listing.partition(str(file.relative_to(root)))
        )


def _below(folder: Path, listed: Path) -> Iterator[Path]:
    """Yield the files below a folder, also those in linked folders, as `**` does. Raises PermissionError.

    A link to a folder that is listed anyway, such as `latest`, or to one above it is left out.
    """
    root = folder.resolve()
    followed: set[Path] = set()

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError) and not _is_ignored(Path(error.filename), listed):
            raise error

    def is_new(path: Path) -> bool:
        if not path.is_symlink():
            return True
        linked = path.resolve()
        if linked.is_relative_to(root) and not is_hidden(str(linked.relative_to(root))):
            return False
        if linked in followed or any(above.is_relative_to(linked) for above in (root, path.parent.resolve())):
            return False
        followed.add(linked)
        return True

    walked: set[Path] = set()
    for top, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := Path(top).resolve()) in walked:  # below two links
            folders.clear()
            continue
        walked.add(real)
        yield from (Path(top, name) for name in names)
        folders[:] = [name for name in sorted(folders) if not is_hidden(name) and is_new(Path(top, name))]


def _refuse_unreadable(pattern: Path, root: Path) -> None:
    """Raise PermissionError for a folder that a glob would look into, and may not: `glob` passes over it."""
    below = pattern.name
    for above in pattern.parents:
        if not above.is_relative_to(root):
            return
        needed = os.R_OK | os.X_OK if glob.has_magic(below) else os.X_OK
        below = above.name
        for folder in map(Path, glob.glob(str(above), recursive=True)):  # noqa: PTH207
            is_open = not folder.is_dir() or os.access(folder, needed, effective_ids=True)
            if not is_open and not _is_ignored(folder, root):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _is_ignored(folder: Path, root: Path) -> bool:
    """Return whether no data is read from a folder below `root`, by its name."""
    return any(is_hidden(name) or name == LOST for name in folder.relative_to(root).parts)


def _logs(folders: Iterable[Path]) -> Iterator[str]:
    """Yield the files in the logs that tables have in these folders."""
    for folder in folders:
        for log in (folder / LOG, folder / METADATA):
            if log.is_dir():
                yield from map(str, log.iterdir())


def _nothing(whole: Path, root: Path) -> PathNotFoundError | NothingFoundError:
    """Return the error of a path without readable files."""
    if whole.is_file():
        return NothingFoundError(
            f"{whole} is not of a kind that can be read: {READABLE}. Rename it, or name its kind: "
            "`source.format` in config.toml, --format of bin/new."
        )
    if not whole.exists() and root.is_dir() and root != whole:
        return PathNotFoundError(f"no file matches {whole}; check the path (`source.path` in config.toml).")
    if not root.exists():
        return PathNotFoundError(f"{root} does not exist; check the path (`source.path` in config.toml).")
    shown = ", ".join([file.name for file in sorted(root.rglob("*")) if file.is_file()][:5]) or "nothing"
    return NothingFoundError(f"{root} holds no file that can be read ({READABLE}); found: {shown}.")


def described(file: Path) -> DownloadedFile:
    """Return a local file's record. Raises UnreadableFileError."""
    try:
        before = file.stat()
        sha256 = hash_file(file)
        after = file.stat()
    except PermissionError as error:
        raise UnreadableFileError(f"{error.filename} may not be read by this user.") from error
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{file} was removed while it was read. Have it delivered again.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UnreadableFileError(
            f"{file} was changed while it was read. Have it written under a name that begins with `.` or `_`, and "
            "renamed when it is complete."
        )
    if not after.st_size:
        raise UnreadableFileError(f"{file} is empty; a file without rows still has a header line.")
    if compression_of(file.name) == ".zip":
        _check_archive(file)
    return DownloadedFile(path=str(file), bytes=after.st_size, sha256=sha256, origin=str(file))


def _check_archive(file: Path) -> None:
    """Raise UnreadableFileError for a file that is not an archive."""
    try:
        zipfile.ZipFile(file).close()
    except zipfile.BadZipFile as error:
        with file.open("rb") as body:
            truncated = body.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        problem = f"is not a zip archive: {error}"
        if truncated:
            reason = "it begins as a zip archive and has no directory at its end. Have it delivered again."
            problem = f"is truncated or damaged: {reason}"
        raise UnreadableFileError(f"{file} {problem}") from error


def _local(path: str) -> Path:
    local = _in_package(path.removeprefix(PACKAGE)) if path.startswith(PACKAGE) else Path(path).expanduser()
    return local.absolute()


def _in_package(path: str) -> Path:
    """Return `path` in the site-packages of the ML environment, while another environment may run this code."""
    return _site_packages(Paths.from_environment().ml_python, path) / path


@functools.cache
def _site_packages(python: Path, path: str) -> Path:
    command = [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    try:
        purelib = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise PathNotFoundError(
            f"package:{path} needs the ML environment, and its Python {python} does not run: {error}. "
            "Set the environment up, or name its Python in NIGHTLY_ML_PYTHON."
        ) from error
    return Path(purelib)
