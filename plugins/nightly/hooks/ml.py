"""Steps of a night in the ML environment, from Airflow's: in a fork of the warm host, or a process of their own."""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from include.contracts.places import ROOT, Places
from include.machine import socket_address

LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+): (.*)")


class MLStepFailed(Exception):
    """The step ran and failed; the message is its own."""


class MLProcessDied(Exception):
    """The step's process ended without a word: killed, out of memory, or crashed in native code."""


class MLHostNotStarted(Exception):
    """The warm host could not be started."""


class MLHook:
    """Runs steps in the ML environment.

    :param warm: fork the step from the warm host, which has TensorFlow and TFX imported; otherwise a new
        process imports them each time. The environment variable NIGHTLY_WARM=0 switches the host off everywhere.
    """

    def __init__(self, warm: bool = True, places: Places | None = None) -> None:
        self.warm = warm
        self.places = places or Places.from_environment()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def run(self, step: str, night_folder: Path, log: logging.Logger) -> dict[str, Any]:
        """Run `step` for the night, streaming its lines to `log`; returns what it found.

        :raises MLStepFailed: the step's own error
        :raises MLProcessDied: its process was killed or crashed
        """
        if not self.places.ml_python.exists():
            raise MLHostNotStarted(
                f"the ML environment's Python is not at {self.places.ml_python}. "
                "Set it up with `make setup`, or name it in NIGHTLY_ML_PYTHON."
            )
        with tempfile.TemporaryDirectory(prefix=f"nightly-{step}-") as folder:
            result_file = Path(folder) / "result.json"
            read, write = os.pipe()
            reader = threading.Thread(target=_stream, args=(read, log), daemon=True)
            reader.start()
            output = os.fdopen(write, "wb", buffering=0)
            try:
                start = self._run_forked if self.warm and os.environ.get("NIGHTLY_WARM") != "0" else self._run_alone
                status = start(step, night_folder, result_file, output)
            finally:
                output.close()  # from here on only the step's own processes can hold the pipe open
                reader.join(timeout=10)
            if not result_file.exists():
                raise MLProcessDied(_death(step, status))
            result = json.loads(result_file.read_text())
            if "error" in result:
                raise MLStepFailed(result["error"])
            return result["value"]

    def kill(self) -> None:
        """End the running step and whatever it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)  # the host ends the step when its client hangs up

    def start_host(self) -> None:
        """Begin to warm the host and return at once; harmless when it is there already."""
        if not self.warm or os.environ.get("NIGHTLY_WARM") == "0" or not self.places.ml_python.exists():
            return
        with contextlib.suppress(OSError):
            self._connect().close()
            return
        self._spawn_host()

    def _run_alone(self, step: str, night_folder: Path, result_file: Path, output: BinaryIO) -> int:
        self._process = subprocess.Popen(
            [str(self.places.ml_python), "-m", "include.pipeline.worker", step, str(night_folder), str(result_file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            return self._process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # nothing that it started outlives it

    def _run_forked(self, step: str, night_folder: Path, result_file: Path, output: BinaryIO) -> int:
        request = {
            "step": step,
            "night": str(night_folder),
            "result": str(result_file),
            "environment": _environment(),
        }
        message = json.dumps(request).encode() + b"\n"
        while True:
            self._connection = self._connected()
            with self._connection as connection:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [output.fileno()]))
                answers: Iterator[str] = iter(())
                with contextlib.suppress(ConnectionError):
                    sent = connection.sendmsg([message], [rights])
                    connection.sendall(message[sent:])
                    answers = iter(connection.makefile("r"))
                if _next(answers) != "started":
                    continue  # it was ending just then
                word, _, status = _next(answers).partition(" ")
                return int(status) if word == "exited" else -signal.SIGKILL

    def _connected(self) -> socket.socket:
        """Return a connection to the host, which is started when it is not there.

        A host that lives is waited for: importing everything takes 20 s on an idle machine, and there is no telling how
        long on a starved one. The task's `execution_timeout` bounds the wait.
        """
        host: subprocess.Popen[bytes] | None = None
        while host is None or host.poll() in (None, 0):
            with contextlib.suppress(OSError):
                return self._connect()
            if host is not None and host.poll() == 0:
                host = None  # another one holds the place; should that one die, take it
                time.sleep(1)
            host = host or self._spawn_host()
            time.sleep(0.1)
        raise MLHostNotStarted(
            f"the warm ML host did not start; its log {self._host_log} ends:\n{_tail(self._host_log)}\n"
            "NIGHTLY_WARM=0 runs each step in a process of its own instead."
        )

    def _connect(self) -> socket.socket:
        folder = os.open(self._socket.parent, os.O_RDONLY)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(socket_address(folder, self._socket))
        except OSError:
            connection.close()
            raise
        finally:
            os.close(folder)
        return connection

    def _spawn_host(self) -> subprocess.Popen[bytes]:
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.parent.chmod(0o700)
        with self._host_log.open("ab") as log:
            return subprocess.Popen(
                [str(self.places.ml_python), "-m", "include.pipeline.host", str(self._socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=_environment(),
                start_new_session=True,
            )

    @property
    def _socket(self) -> Path:
        """Named after what the host holds in memory, so that another ML environment gets another host."""
        installed = self.places.ml_python.parent.parent / "installed.txt"
        parts = [str(self.places.ml_python), installed.read_text() if installed.exists() else ""]
        parts += [(ROOT / "include/pipeline" / name).read_text() for name in ("host.py", "preloaded.py")]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        return self.places.run / "host" / f"ml-{key}.sock"

    @property
    def _host_log(self) -> Path:
        return self._socket.with_suffix(".log")


def _environment() -> dict[str, str]:
    """This process's environment for the ML side: its own Python path."""
    # The official Airflow image preloads the system's libstdc++, which is too old for TFDV.
    left_out = ("VIRTUAL_ENV", "PYTHONHOME", "LD_PRELOAD")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _stream(descriptor: int, log: logging.Logger) -> None:
    """Each line to `log`, at the level it was logged with; a line without one belongs to the last."""
    level = logging.INFO
    with os.fdopen(descriptor, errors="replace") as lines:
        for line in lines:
            matched = LINE.match(line)
            if matched:
                level = logging.getLevelNamesMapping()[matched[1]]
            log.log(level, "%s", matched[3] if matched else line.rstrip())


def _next(answers: Iterator[str]) -> str:
    try:
        return next(answers, "").strip()
    except ConnectionError:
        return ""


def _death(step: str, status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        advice = " The machine may have run out of memory." if status == -signal.SIGKILL else ""
        return f"{step}: its process was ended by {name} and left no result.{advice}"
    return f"{step}: its process ended with status {status} and left no result; its last lines are in this log."


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"
