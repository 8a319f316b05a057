"""Whom a fault can strike: the campaign's processes, told apart by what they are started as."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable

import psutil

PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
HOST = "nightly.runtime.host"


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none is lost sight of."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[psutil.Process]:
    """Every process that this one has started, however far down; the dead ones are left out."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if status(process) not in ("", psutil.STATUS_ZOMBIE)]


def status(process: psutil.Process) -> str:
    """Its state, "" if it is gone."""
    with contextlib.suppress(psutil.Error):
        return process.status()
    return ""


def reap_orphans(own: Iterable[int]) -> None:
    """Take leave of dead children other than `own`, which subprocess waits for."""
    own = set(own)
    for child in psutil.Process().children():
        if child.pid not in own and status(child) == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it, itself first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def send(processes: Iterable[psutil.Process], number: int) -> list[psutil.Process]:
    """Signal each; returns those that were there. A process of the same number that came later is not struck."""
    struck = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            struck.append(process)
    return struck


def end(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Ask each to end, and make those that have not after `seconds`."""
    processes = send(processes, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, seconds)
    send(alive, signal.SIGKILL)
    psutil.wait_procs(alive, 5)


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _leads_session(process: psutil.Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


def _forked_by_host(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and HOST in _command(parent)
    return False


def is_host(process: psutil.Process) -> bool:
    return HOST in _command(process) and _leads_session(process) and not _forked_by_host(process)


def is_step(process: psutil.Process) -> bool:
    forked = HOST in _command(process) and _leads_session(process) and _forked_by_host(process)
    return forked or "nightly.runtime.worker" in _command(process)


def is_step_supervisor(process: psutil.Process) -> bool:
    return HOST in _command(process) and not _leads_session(process)


def is_task(process: psutil.Process) -> bool:
    command = _command(process)
    return command.startswith("airflow worker -- ") and "LocalExecutor" not in command


def is_task_supervisor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(is_task(child) for child in process.children())
    return False


KINDS: dict[str, Callable[[psutil.Process], bool]] = {
    "step": is_step,
    "step-supervisor": is_step_supervisor,
    "host": is_host,
    "task": is_task,
    "task-supervisor": is_task_supervisor,
}


def victims(kind: str) -> list[psutil.Process]:
    """The processes of a kind that live now, by age."""
    found = []
    for process in descendants():
        with contextlib.suppress(psutil.Error):
            if KINDS[kind](process):
                found.append((process.create_time(), process.pid, process))
    return [process for *_, process in sorted(found, key=lambda entry: entry[:2])]
