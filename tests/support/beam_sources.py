"""What Beam's workers do in tests; they import this module."""

import os
import subprocess
import time
from pathlib import Path


def pid(_: int) -> int:
    """The process that does this."""
    time.sleep(0.5)  # so that no process has done all before the other has started
    return os.getpid()


def endless(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def leave_address(folder: str) -> None:
    """Leave a file named after the host's address in its network namespace."""
    time.sleep(0.5)
    output = subprocess.run(["ip", "-4", "-o", "address", "show", "eth0"], capture_output=True, text=True).stdout
    (Path(folder) / output.split()[3].partition("/")[0]).touch()


def damaged(source: int) -> None:
    raise ValueError(f"the source {source} is damaged")
