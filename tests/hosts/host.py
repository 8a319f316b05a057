"""A host of its own on this machine: its own disk, processes and name; the network is the machine's.

Two hosts see each other's work only through services. Both see their disk at the same path, as hosts of a cluster do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from nightly.io.paths import ROOT
from nightly.io.polling import poll
from tests.chaos import processes

INSIDE = Path(__file__).parent / "inside.sh"
OWN = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
TMP = Path("/tmp")


class Host:
    """One host, with a command that runs on it while it is up.

    :param disk: the folder of this machine that is the host's disk
    :param var: where the host sees it; below /tmp
    :param code: folders that the host may read; others of /tmp are not there
    """

    def __init__(
        self, name: str, disk: Path, var: Path, code: Sequence[Path], command: Sequence[str], env: dict[str, str]
    ) -> None:
        if not var.is_relative_to(TMP):
            raise ValueError(f"{var} is not below {TMP}")
        self.name = name
        self.disk = disk
        self.var = var
        self.log = disk.with_suffix(".log")
        self._command = [*OWN, str(INSIDE), name, str(disk), str(var), *map(str, code), "--", *command]
        self._environment = env | {"TMPDIR": "/tmp", "HOME": "/tmp"}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it with the disk as it is."""
        (self.disk / "tmp").mkdir(parents=True, exist_ok=True)
        (self.disk / "var").mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.child", *self._command],  # which ends it, however this process ends
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Cut its power: SIGKILL to all its processes at once."""
        processes.send(self._unshare(), signal.SIGKILL)  # the kernel ends the namespace with its first process
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def freeze(self) -> None:
        """Stop all its processes, as a virtual machine that is paused."""
        processes.send(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        processes.send(self.processes(), signal.SIGCONT)

    def empty(self) -> None:
        """Delete all that is on its disk; it must be down."""
        if self.up:
            raise RuntimeError(f"{self.name} is up")
        shutil.rmtree(self.disk)

    def processes(self) -> list[psutil.Process]:
        """All processes of the host, its first one first."""
        return [process for top in self._unshare() for process in processes.tree(top.pid)[1:]]

    def of_kind(self, kind: str) -> list[psutil.Process]:
        """Its processes of a kind of tests.chaos.processes, e.g. `step`."""
        alive = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if processes.KINDS[kind](process):
                    alive.append(process)
        return alive

    def run(self, *command: str | Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, beside what runs there."""
        first = poll(self.processes, seconds=10, every=0.1)[0]
        enter = ["nsenter", f"--target={first.pid}", "--mount", "--uts", "--pid", "--wd=/tmp"]
        return subprocess.run(
            [*enter, *map(str, command)], env=self._environment, capture_output=True, text=True, timeout=seconds
        )

    def path(self, seen: Path) -> Path:
        """Where this machine has a file that the host sees below its `var`."""
        return self.disk / "var" / seen.relative_to(self.var)

    def last_lines(self, count: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def _unshare(self) -> list[psutil.Process]:
        if not self.up or self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children()
        return []


def refusal() -> str:
    """Return why this machine cannot have hosts, or ""."""
    if os.geteuid():
        return "only root can have mount namespaces that change /tmp"
    done = subprocess.run([*OWN, "true"], capture_output=True, text=True)
    return f"namespaces cannot be made here: {done.stderr.strip()}" if done.returncode else ""
