"""A child process that ends with all its descendants: when it is stopped, and when its parent dies in any way.

python -m local.child COMMAND …      the process in between; it ends the command when its standard input closes
"""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from nightly.io.polling import poll
from nightly.io.processes import end_group, start

ASK_SECONDS = 10  # from SIGTERM to SIGKILL
Value = TypeVar("Value")


class Child:
    """`command` in its own process group, with its output appended to `log`."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = start(
                [sys.executable, "-m", "local.child", *command],
                environment=environment,
                output=output,
                stdin=subprocess.PIPE,  # closed by the kernel when this process dies
            )
        self._log = log

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, look: Callable[[], Value], seconds: float) -> Value:
        """Call `look` until it returns a true value, the process ends or the time is over; return its last value."""
        return poll(look, until=lambda answer: answer or not self.running, seconds=seconds, every=0.2)

    def wait(self) -> int:
        """Block until the process ends by itself; return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End the process and its descendants: SIGTERM first, then SIGKILL."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(2 * ASK_SECONDS)
        except subprocess.TimeoutExpired:
            end_group(self._process.pid)
            self._process.wait()

    def last_lines(self, count: int) -> str:
        """Return the end of the log, for an error's message."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process ends last of its group
    command_process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)
    )
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    code = command_process.wait()
    _end_the_others()
    return code


def _end_with_standard_input() -> None:
    os.read(0, 1)  # nothing is ever written: read returns when the other end closes
    _end_the_others()
    os._exit(0)


def _end_the_others() -> None:
    """Send SIGTERM to this process group, and SIGKILL to those that remain after ASK_SECONDS."""
    os.killpg(0, signal.SIGTERM)
    if poll(_others, until=operator.not_, seconds=ASK_SECONDS, every=0.05):
        os.killpg(0, signal.SIGKILL)  # includes this process


def _others() -> bool:
    own = os.getpgrp()
    for process in psutil.process_iter(["status"]):
        if process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            try:
                if os.getpgid(process.pid) == own:
                    return True
            except ProcessLookupError:
                pass
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
