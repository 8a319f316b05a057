"""Kill work (SIGKILL) at each of its lines that finds the disk changed.

What a killed process leaves is what is on the disk: its locks end with it. Deaths at two lines between which the disk
stays as it is are the same death, so the work dies once a state of the disk.
"""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import cloudpickle  # comes with Beam; pickles closures

import nightly.records.base
from nightly.io import atomic, files
from nightly.release import candidates, servers, store, transitions, versions
from nightly.release.store import ReleaseStore
from tests.support.forks import FORKS

_OPERATIONS = (candidates, servers, store, transitions, versions)
RELEASE = {module.__file__ for module in (*_OPERATIONS, atomic, files, nightly.records.base, shutil)}


def died_at(step: int, work: Callable[[], object], traced: set[str] = RELEASE, folder: Path | None = None) -> bool:
    """Run `work` in a child that kills itself at a line of the files `traced`; return False if it ends before.

    The line is the first after the `step`-th change of anything below `folder`; without a folder, the `step`-th line.
    """
    state = (lambda: disk(folder)) if folder else itertools.count().__next__
    child = FORKS.Process(target=_run, args=(cloudpickle.dumps((step, work, traced, state)), dict(os.environ)))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def deaths(
    new: Callable[[], ReleaseStore], work: Callable[[ReleaseStore], object], every: int = 1
) -> Iterator[ReleaseStore]:
    """Yield a store for each state of its disk in which `work` was killed, until `work` lives to its end.

    :param every: 2 skips every other state
    """
    for step in itertools.count(0, every):
        store = new()
        if not died_at(step, lambda store=store: work(store), folder=store.disk.serving.parent):
            return
        yield store


def disk(folder: Path) -> list[tuple]:
    """Return what tells two states of the files below `folder` apart, contents by their times and sizes.

    It is asked once a line, and so avoids pathlib.
    """
    state, folders = [], [str(folder)] if folder.exists() else []
    for parent in folders:
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                stat = entry.stat(follow_symlinks=False)
                times = stat.st_mtime_ns, stat.st_ctime_ns
                state.append((entry.path, stat.st_mode, stat.st_ino, stat.st_nlink, stat.st_size, times))
    return state


def _run(pickled: bytes, environment: dict[str, str]) -> None:
    os.environ.clear()  # what the fork server began with may be another test's
    os.environ.update(environment)
    left, work, traced, state = cloudpickle.loads(pickled)
    last = state()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, last
        if frame.f_code.co_filename not in traced:
            return None
        if event == "line":
            last, before = state(), last
            left -= last != before
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    work()
    sys.settrace(None)
