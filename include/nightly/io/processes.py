"""Child processes: how they are started, and how they are ended with all that they have started."""

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
    """Start `command` in `folder`, the project's, as the leader of a session: a Ctrl-C here does not reach it.

    :param output: of both streams; None is this process's own
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
    """Send a signal to the process `leader` and all of its group; without one, nothing happens."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
