"""The files of a version: their hashes, and a copy of them that survives a power cut."""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nightly.io.machine import cpus
from nightly.records.base import sync_folder
from nightly.release.errors import ReleaseError


def hash_files(folder: Path) -> dict[str, str]:
    """Path inside `folder` -> sha256, of every file in it. Raises ReleaseError for what is not a plain file.

    A file in the place of the folder has the path `.`.
    """
    files = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReleaseError(f"{path} is not a plain file: a version must hold its files itself")
        if path.is_file():
            files.append(path)
    with ThreadPoolExecutor(cpus()) as pool:  # hashing releases the interpreter's lock
        names = (path.relative_to(folder).as_posix() for path in files)
        return dict(zip(names, pool.map(hash_file, files), strict=True))


def differences(expected: dict[str, str], actual: dict[str, str]) -> dict[str, str]:
    """Compare two results of hash_files: each file that differs, with a sentence that says how."""
    wrong = {name: f"{name} is missing" for name in expected.keys() - actual.keys()}
    wrong |= {name: f"{name} does not belong to it" for name in actual.keys() - expected.keys()}
    both = expected.keys() & actual.keys()
    wrong |= {name: f"{name} has changed" for name in both if expected[name] != actual[name]}
    return dict(sorted(wrong.items()))


def hash_file(path: Path) -> str:
    """Its sha256, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy to a new file that survives a power cut, once its folder is synced too."""
    with open(source, "rb") as read, open(target, "xb") as written:
        shutil.copyfileobj(read, written, 2**20)
        written.flush()
        os.fchmod(written.fileno(), 0o644)
        os.fsync(written.fileno())


def copy_files(source: Path, target: Path, top: Path) -> None:
    """Copy a folder so that it survives a power cut: all files and folders synced, up to `top`.

    Everyone may read the copy, whatever the umask: the server runs as another user.
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
        sync_folder(folder)
