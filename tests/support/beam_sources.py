"""What Beam's workers do in tests; they import this module."""

import os
import time
from pathlib import Path


def pid(_: int) -> int:
    """The process that does this."""
    time.sleep(0.5)  # so that no process has done all before the other has started
    return os.getpid()


def endless(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def damaged(source: int) -> None:
    raise ValueError(f"the source {source} is damaged")
