"""Hashes and durable copies of a folder's files."""

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nightly.io.atomic import sync_file, sync_path
from nightly.io.machine import cpus

CLOCK_NS = 100_000_000  # an upper bound of the lag of a file system's clock


class NotPlainFileError(Exception):
    """A folder holds something other than plain files, e.g. a link."""


def hash_files(folder: Path) -> dict[str, str]:
    """Return relative path -> sha256 of every file in `folder`. Raises NotPlainFileError.

    If `folder` is a file, its relative path is `.`.
    """
    files = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise NotPlainFileError(f"{path} is not a plain file: put the file itself there")
        if path.is_file():
            files.append(path)
    with ThreadPoolExecutor(cpus()) as pool:  # hashing releases the GIL
        names = (path.relative_to(folder).as_posix() for path in files)
        return dict(zip(names, pool.map(hash_file, files), strict=True))


def differences(expected: dict[str, str], actual: dict[str, str]) -> dict[str, str]:
    """Compare two results of hash_files; return path -> description of each file that differs."""
    problems = {name: f"{name} is missing" for name in expected.keys() - actual.keys()}
    problems |= {name: f"{name} does not belong to it" for name in actual.keys() - expected.keys()}
    both = expected.keys() & actual.keys()
    problems |= {name: f"{name} has changed" for name in both if expected[name] != actual[name]}
    return dict(sorted(problems.items()))


def hash_file(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> str:
    """Return a text that changes with the file: its size, times and inode."""
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"


def is_still(path: Path) -> bool:
    """Return whether another write to the file would change its stamp. Within a tick of the clock it might not."""
    return time.time_ns() - path.stat().st_ctime_ns > CLOCK_NS


def copy_file(source: Path, target: Path) -> None:
    """Copy to a new file and sync it. It survives a power cut once its folder is synced too."""
    with open(source, "rb") as read, open(target, "xb") as written:
        shutil.copyfileobj(read, written, 2**20)
        os.fchmod(written.fileno(), 0o644)
        sync_file(written)


def copy_files(source: Path, target: Path, top: Path) -> None:
    """Copy a folder, and sync all its files and folders up to `top`, to survive a power cut.

    The copy is readable for everyone, whatever the umask, since the model server runs as another user.
    """
    target.mkdir(parents=True)
    folders = [top, target] if top != target else [target]
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
            folders.append(copy)
            continue
        copy_file(path, copy)
    for folder in reversed(folders):
        folder.chmod(0o755)
        sync_path(folder)
