"""A release that kills itself: what a child process of test_crashes_verification.py does. No TensorFlow is needed."""

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from nightly.io import files
from nightly.io.paths import Paths
from nightly.records.config import Release
from nightly.release import candidates, servers, store, transitions, versions
from nightly.release.store import ReleaseStore
from nightly.serving import models_config as live
from nightly.serving import server, verify
from tests.support.releases import origin

TRACED = {
    module.__file__ for module in (files, candidates, servers, store, transitions, versions, live, server, verify)
}


def release(environment: dict[str, str], name: str, source: Path, run_id: str, die_at: int | None, reached: Connection):
    """Release `source` as the pipeline does, and die (SIGKILL) before the `die_at`-th new line after the rename.

    Sends the lines that were reached, as function:line, once the release has ended.
    """
    os.environ.update(environment)
    verify.LATENCY_REQUESTS = 2
    lines: dict[str, None] = {}
    renamed = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal renamed
        if frame.f_code.co_filename not in TRACED:
            return None
        renamed = renamed or frame.f_code.co_name == "into_production"
        if event == "line" and renamed:
            lines.setdefault(f"{frame.f_code.co_name}:{frame.f_lineno}")
            if die_at is not None and len(lines) > die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    paths = Paths.from_environment()
    model_server = server.find_server(paths, name, Release(timeout_seconds=30, latency_factor=1000))
    sys.settrace(trace)
    ReleaseStore(paths.serving, paths.releases, name).release(Path(source), origin(run_id), server=model_server)
    sys.settrace(None)
    reached.send(list(lines))
