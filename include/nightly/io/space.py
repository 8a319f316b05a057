"""Check before a write that the disk has enough free space. Imports only the standard library."""

import errno
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from nightly.io.errors import UserError

SPARE_BYTES = 64 * 2**20  # to leave free for records, logs and other processes
FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDY = (
    "Make room, or lower [retention] and release.keep in the model's config.toml and run `bin/snapshots prune MODEL`."
)


class SpaceError(UserError, RuntimeError):
    """A disk has too little free space. The message has the free and the needed bytes."""

    infrastructure = True


def check_space(
    needs: Mapping[Path, int], what: str, error: type[SpaceError] = SpaceError, remedy: str = REMEDY
) -> None:
    """Raise `error` unless each disk has space for its folders in `needs` and SPARE_BYTES.

    The folders need not exist. The needs of folders on the same file system are added up.

    :param needs: folder -> bytes to write
    :param what: what needs the space, for the message
    :param remedy: what to do, for the message
    """
    by_disk: dict[int, dict[Path, int]] = defaultdict(dict)
    for folder, needed in needs.items():
        existing = _existing(folder)
        by_disk[existing.stat().st_dev][existing] = by_disk[existing.stat().st_dev].get(existing, 0) + needed
    for folders in by_disk.values():
        needed, (folder, *_) = sum(folders.values()) + SPARE_BYTES, folders
        if (free := free_bytes(folder)) < needed:
            raise error(f"{folder} has {megabytes(free)} free, and {what} needs {megabytes(needed)}. {remedy}")


@contextmanager
def full_disk_explained(folder: Path, what: str) -> Iterator[None]:
    """Turn "no space left on device" into a SpaceError with the free space."""
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        free = megabytes(free_bytes(folder))
        raise SpaceError(
            f"the disk of {folder} became full while {what} was written: {free} are free now. {REMEDY}"
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Return whether `error` is the operating system's for a disk or a quota that is full."""
    return isinstance(error, OSError) and error.errno in FULL


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`, which need not exist."""
    return shutil.disk_usage(_existing(folder)).free


def size_of(folder: Path) -> int:
    """Return the total bytes of all files below `folder`; 0 if it does not exist."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # removed meanwhile
                total += Path(top, name).lstat().st_size
    return total


def megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
