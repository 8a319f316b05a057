"""Ends a warm host that hangs before it listens, as when it was stopped while it imported."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

STUCK_SECONDS = 60  # without any processor time
STUCK_LOOKS = 10  # and at least so many looks: on a machine that stood still, nothing had processor time

log = logging.getLogger(__name__)


class StartingHost:
    """Observes the host that holds the lock, and is not reached yet.

    Its imports take 20 s on an idle machine, and far longer on a busy one, so there is no time limit. But a host that
    imports uses the processor. One that does not keeps the lock, and no other host could ever start.

    :param lock: the host's lock file, which has the process id of its last holder
    """

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._seen: tuple[int, int] | None = None  # process id and processor time
        self._since, self._looks = 0.0, 0

    def end_if_stuck(self) -> bool:
        """Kill the host if it has used no processor time for STUCK_SECONDS; return whether it did."""
        seen = self._holder()
        if seen is None or seen != self._seen:
            self._seen, self._since, self._looks = seen, time.monotonic(), 0
            return False
        self._looks += 1
        seconds = time.monotonic() - self._since
        if seconds < STUCK_SECONDS or self._looks < STUCK_LOOKS:
            return False
        pid, _ = seen
        log.warning("the warm host, process %d, has not moved for %.0f s: starting another", pid, seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        self._seen = None
        return True

    def _holder(self) -> tuple[int, int] | None:
        """Return the host's process id and its processor time in clock ticks; None where that is not known."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._lock.read_text())
            process = Path("/proc") / str(pid)  # Linux only
            if b"nightly.runtime.host" in (process / "cmdline").read_bytes():  # not a later process of the same id
                user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                return pid, int(user) + int(system)
        return None
