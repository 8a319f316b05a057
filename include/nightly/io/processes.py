"""Start child processes, and end them together with their own children."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from nightly.io.paths import ROOT


def start(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path = ROOT,
    output: BinaryIO | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder`, by default the project's, as a session leader, which a Ctrl-C here does not reach.

    :param output: for both output streams; None: this process's own
    """
    return subprocess.Popen(
        list(map(str, command)),
        stdin=stdin,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def end_group(leader: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to the process group of `leader`, if it still exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
