"""Runs a night's steps in the ML environment, from Airflow's: in a fork of the warm host, or in a new process."""

from __future__ import annotations

import array
import collections
import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nightly.io import variables
from nightly.io.machine import socket_address
from nightly.io.paths import ROOT, Paths, python_path
from nightly.io.polling import poll
from nightly.io.processes import end_group, start
from nightly.io.scratch import scratch_folder
from nightly.io.secrets import masked
from nightly.records.connection import PREFIX as CONNECTIONS
from nightly_airflow.hooks.death import Watch
from nightly_airflow.hooks.starting_host import StartingHost
from nightly_airflow.hooks.step_log import logged

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 60  # allowed for forking a step; a host that takes longer is stuck
HANDSHAKES = 5  # attempts before MLHostNotStarted is raised
HOST_FILES = ("host.py", "preloaded.py", "processes.py")  # loaded once, when a host starts
TEMPORARY = Path(tempfile.gettempdir())
LAST_LINES = 10  # of the step's log, quoted in its error
PEER = struct.Struct("3i")  # process id, user id, group id

Exit = tuple[int, int | None]  # exit status (negative for a signal), and peak memory in bytes, if known


class MLStepFailed(Exception):
    """The step raised an error, whose message this is.

    :param retry: whether a later try may succeed without a person
    """

    def __init__(self, message: str, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class MLInfrastructureFailed(Exception):
    """What the step needs failed, and a later try may not meet it.

    The bucket or the database was away, another host was faster, or Kubernetes ended the pod or never started it.
    """


class MLProcessDied(Exception):
    """The step's process ended without a result: killed, out of memory, or crashed in native code."""


class MLHostNotStarted(Exception):
    """The warm host could not be started."""


def step_error(error: str, retry: bool = True, infrastructure: bool = False) -> MLStepFailed | MLInfrastructureFailed:
    """Return the error that a step recorded (nightly.runtime.worker)."""
    message = masked(error)
    return MLInfrastructureFailed(message) if infrastructure else MLStepFailed(message, retry)


class MLHook:
    """Runs steps in the ML environment.

    :param warm: fork the step from the warm host, which has TensorFlow and TFX imported; otherwise each step is a
        new process that imports them. The environment variable NIGHTLY_WARM=0 switches the host off everywhere.
    """

    def __init__(self, warm: bool = True, paths: Paths | None = None) -> None:
        self.warm = warm
        self.paths = paths or Paths.from_environment()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def run(
        self, step: str, night_folder: Path, log: logging.Logger, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run `step` for the night, stream its lines to `log`, and return its result.

        :param environment: further environment variables of the step's process
        :raises MLStepFailed: the step's own error
        :raises MLInfrastructureFailed: the state was not reached, or another host was faster
        :raises MLProcessDied: its process was killed or crashed
        """
        if not self.paths.ml_python.exists():
            raise MLHostNotStarted(
                f"the ML environment's Python is not at {self.paths.ml_python}. "
                "Set it up with `make setup`, or name it in NIGHTLY_ML_PYTHON."
            )
        with scratch_folder(TEMPORARY, step.rpartition(":")[2]) as folder:
            result_file = folder / "result.json"
            watch, last_lines = Watch(), collections.deque[str](maxlen=LAST_LINES)
            read, write = os.pipe()
            printed_result: list[str] = []
            reader = threading.Thread(
                target=_stream, args=(read, log, last_lines, f"{result_file}: ", printed_result), daemon=True
            )
            reader.start()
            output = os.fdopen(write, "wb", buffering=0)
            try:
                run = self._run_forked if self.warm and variables.WARM.read() != "0" else self._run_alone
                status, memory = run(step, night_folder, result_file, output, environment or {})
            finally:
                output.close()  # now only the step's own processes can hold the pipe open
                reader.join(timeout=10)
            text = result_file.read_text() if result_file.exists() else "".join(printed_result)
            if not text:
                raise MLProcessDied(watch.describe(step, status, memory, last_lines))
            result = json.loads(text)
            if "error" in result:
                raise step_error(**result)
            return result["value"]

    def kill(self) -> None:
        """End the running step and its child processes."""
        if self._process is not None:
            end_group(self._process.pid, signal.SIGTERM)
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)  # the host ends the step when its client hangs up

    def start_host(self) -> None:
        """Start the warm host in the background, unless it runs."""
        if not self.warm or variables.WARM.read() == "0" or not self.paths.ml_python.exists():
            return
        with contextlib.suppress(OSError):
            self._connect().close()
            return
        self._spawn_host()

    def _run_alone(
        self, step: str, night_folder: Path, result_file: Path, output: BinaryIO, environment: Mapping[str, str]
    ) -> Exit:
        self._process = start(
            [self.paths.ml_python, "-m", "nightly.runtime.worker", step, night_folder, result_file],
            environment={**_environment(result_file.parent), **environment, "NIGHTLY_TASK_PID": str(os.getpid())},
            folder=ROOT,
            output=output,
        )
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)  # as wait() would
            return self._process.returncode, usage.ru_maxrss * 1024
        finally:
            end_group(self._process.pid)  # with the children that it left

    def _run_forked(
        self, step: str, night_folder: Path, result_file: Path, output: BinaryIO, environment: Mapping[str, str]
    ) -> Exit:
        request = {
            "step": step,
            "night": str(night_folder),
            "result": str(result_file),
            "environment": {**_environment(result_file.parent), **environment},
        }
        message = json.dumps(request).encode() + b"\n"
        started = poll(lambda: self._start_forked(message, output), tries=HANDSHAKES, every=1)
        if started is None:
            raise MLHostNotStarted(
                f"the warm ML host has started no step in {HANDSHAKES} tries; {self._host_log_end()}"
            )
        connection, answers, child = started
        with connection:
            connection.settimeout(None)
            with contextlib.suppress(ConnectionError):
                event, status, memory = _read_fields(answers, 3)
                if event == "exited":
                    return int(status), int(memory)
            # The step's supervisor was killed. The kernel ends the step with it, but not the step's children.
            end_group(child)
            return -signal.SIGKILL, None

    def _start_forked(self, message: bytes, output: BinaryIO) -> tuple[socket.socket, TextIO, int] | None:
        """Ask the host to fork the step; return the connection, the reader of its answers, and the step's process id.

        Return None if the host is ending, cannot fork, or does not answer.
        """
        self._connection = connection = self._connected()
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            answers = connection.makefile("r")
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [output.fileno()]))
            connection.settimeout(HANDSHAKE_SECONDS)
            try:
                sent = connection.sendmsg([message], [rights])
                connection.sendall(message[sent:])
                event, child = _read_fields(answers)
            except TimeoutError:
                self._end_stuck_host(connection)
                return None
            except ConnectionError:
                return None
            if event != "started":
                return None
            stack.pop_all()  # keeps the connection open
            return connection, answers, int(child)

    def _connected(self) -> socket.socket:
        """Return a connection to the host; start the host if it does not run.

        There is no time limit while the host imports, which takes far longer on a busy machine. The task's
        `execution_timeout` bounds the wait.
        """
        host: subprocess.Popen[bytes] | None = None
        starting = StartingHost(self._socket.with_suffix(".lock"))
        while host is None or host.poll() in (None, 0):
            with contextlib.suppress(OSError):
                return self._connect()
            if host is not None and host.poll() == 0:
                host = None  # it left because another host runs; start one again if that one dies
                time.sleep(1)
            if starting.end_if_stuck():
                host = None
            host = host or self._spawn_host()
            time.sleep(0.1)
        raise MLHostNotStarted(f"the warm ML host did not start; {self._host_log_end()}")

    def _host_log_end(self) -> str:
        return (
            f"its log {self._host_log} ends:\n{_tail(self._host_log)}\n"
            "NIGHTLY_WARM=0 runs each step in a process of its own instead."
        )

    def _end_stuck_host(self, connection: socket.socket) -> None:
        """Kill the host that does not answer on `connection`. Steps that it has forked keep running."""
        if not hasattr(socket, "SO_PEERCRED"):  # Linux only; elsewhere the attempts run out
            return
        pid, *_ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        log.warning("the warm host, process %d, has not answered for %d s: starting another", pid, HANDSHAKE_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)

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
            command: list[str | Path] = [self.paths.ml_python, "-m", "nightly.runtime.host", self._socket]
            environment = _environment()
            environment.pop(variables.SESSION.name, None)  # this task's, and the host serves later ones, too
            return start(command, environment=environment, folder=ROOT, output=log)

    @property
    def _socket(self) -> Path:
        """The socket's path. It contains a hash of the host's code and packages, so a changed one gets a new host."""
        installed = self.paths.ml_python.parent.parent / "installed.txt"
        parts = [str(self.paths.ml_python), installed.read_text() if installed.exists() else ""]
        parts += [(ROOT / "include/nightly/runtime" / name).read_text() for name in HOST_FILES]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        return self.paths.run / "host" / f"ml-{key}.sock"

    @property
    def _host_log(self) -> Path:
        return self._socket.with_suffix(".log")


def _environment(scratch: Path | None = None) -> dict[str, str]:
    """Return the environment of an ML process: this process's, with another Python path and temporary folder.

    It has no Airflow connections: a step gets only the one that its operator hands to it.
    """
    # The official Airflow image preloads the system's libstdc++, which is too old for TFDV.
    excluded = ("VIRTUAL_ENV", "PYTHONHOME", "LD_PRELOAD")
    environment = {
        key: value for key, value in os.environ.items() if key not in excluded and not key.startswith(CONNECTIONS)
    }
    overrides = {"PYTHONPATH": python_path(ROOT), "PYTHONUNBUFFERED": "1"}
    return {**environment, **overrides, **({"TMPDIR": str(scratch)} if scratch else {})}


def _stream(
    descriptor: int, log: logging.Logger, last_lines: collections.deque[str], prefix: str, printed_result: list[str]
) -> None:
    """Log each line, and keep the last ones in `last_lines`.

    A step that cannot write its result file prints the result after `prefix`; that goes to `printed_result`.
    """

    def without_result(lines: TextIO) -> Iterator[str]:
        for line in lines:
            if line.startswith(prefix):
                printed_result[:] = [masked(line.removeprefix(prefix))]
            else:
                yield line

    with os.fdopen(descriptor, errors="replace") as lines:
        last_lines.extend(logged(without_result(lines), log))


def _read_fields(answers: TextIO, count: int = 2) -> list[str]:
    """Return the fields of the host's next line, filled up with "" to `count`, as when the connection has ended."""
    fields = answers.readline().split()
    return fields + [""] * (count - len(fields))


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"
