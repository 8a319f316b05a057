"""A clock that jumps, for Airflow's processes alone: libfaketime, of Debian's package, without root.

The ML side keeps the machine's clock, as a host of its own would: an Airflow task passes no LD_PRELOAD on, and native
libraries that wait by the wall clock would wait for the jump.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

LIBRARY = "libfaketime.so.1"
# Python sleeps by clock_nanosleep until a monotonic time, which libfaketime takes for one of the wall clock, so that
# the sleep fails after a jump. Under another name the function is out of the way, and the C library's own is called.
BROKEN, RENAMED = b"\0clock_nanosleep\0", b"\0clock_nanosleeP\0"


class NoClock(Exception):
    """libfaketime is not there, and cannot be fetched."""


class Clock:
    """The clock of whatever runs with `environment`, in `folder`. Raises NoClock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library = folder / LIBRARY
        self._library.write_bytes(_find(folder).read_bytes().replace(BROKEN, RENAMED, 1))
        self._offset = folder / "offset"
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """Set it so many seconds off the machine's clock, within a second."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._offset)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until a process sees a jump
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


def _find(folder: Path) -> Path:
    """The system's library, or that of Debian's package, unpacked in `folder`."""
    for path in Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"):
        return path
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoClock("libfaketime is not installed, and there is no apt-get to fetch it with")
    done = subprocess.run(["apt-get", "download", "libfaketime"], cwd=folder, capture_output=True, text=True)
    packages = list(folder.glob("libfaketime_*.deb"))
    if done.returncode or not packages:
        raise NoClock(f"libfaketime could not be fetched: {done.stderr.strip()[-300:]}")
    subprocess.run(["dpkg-deb", "-x", packages[0], folder / "package"], check=True)
    return next((folder / "package").rglob(LIBRARY))
