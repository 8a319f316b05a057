"""A process that ends with all it has started: when it is told to, and when this one dies, however that happens.

python -m local.child COMMAND …      what runs in between; it ends the command when its standard input closes
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
Answer = TypeVar("Answer")


class Child:
    """`command` in a process group of its own, writing to the end of `log`."""

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

    def wait_for(self, look: Callable[[], Answer], seconds: float) -> Answer:
        """Call `look` until its answer is true; return its last answer when the process ends or the time is over."""
        return poll(look, until=lambda answer: answer or not self.running, seconds=seconds, every=0.2)

    def wait(self) -> int:
        """Block until it ends by itself; its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it and all it has started, asking first."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(2 * ASK_SECONDS)
        except subprocess.TimeoutExpired:
            end_group(self._process.pid)
            self._process.wait()

    def last_lines(self, count: int) -> str:
        """The end of its log, for an error's message."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is the last of its group to go
    command_process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)
    )
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    code = command_process.wait()
    _end_the_others()
    return code


def _end_with_standard_input() -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    _end_the_others()
    os._exit(0)


def _end_the_others() -> None:
    """Ask all of this group to end; after a while, make them."""
    os.killpg(0, signal.SIGTERM)
    if poll(_others, until=operator.not_, seconds=ASK_SECONDS, every=0.05):
        os.killpg(0, signal.SIGKILL)  # and with them this process


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
