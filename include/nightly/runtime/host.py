"""The warm host: imports TensorFlow and TFX once, then forks a child for each step.

    python -m nightly.runtime.host SOCKET

Importing TFX takes 20 s on two cores; a fork takes milliseconds. The host also imports the project's code, and
reimports it when a file has changed, so an edit takes effect in the next step. The child imports the model's folder
itself. The host listens on a Unix socket in a folder that only its user can open, and exits when it has been idle.

A client sends one JSON line (`step`, `night`, `result`, `environment`) with the file descriptor for the child's output.
The host answers `started PID`, then `exited STATUS MEMORY`, where MEMORY is the child's peak memory in bytes. When the
client hangs up, the child is ended.

Three processes are involved, and each may be killed: the host accepts requests, a supervisor forked for each request
watches the step, and the step runs. The supervisor closes the host's listening socket and lock, so a new host can
replace a dead one while its steps still run. A step ends with its supervisor.
"""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import socketserver
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from nightly.io import variables
from nightly.io.locks import locked
from nightly.io.machine import socket_address
from nightly.io.paths import ROOT
from nightly.io.processes import end_group
from nightly.runtime import preloaded

IDLE_SECONDS = float(variables.HOST_IDLE_SECONDS.read())
GRACE_SECONDS = 5  # between SIGTERM and SIGKILL

log = logging.getLogger("nightly.host")


class Host(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks a supervisor for each request, which forks and watches the step's process."""

    max_children = 64
    block_on_close = False
    request_queue_size = 64
    last_used = time.monotonic()

    def __init__(self, address: str, code: preloaded.ProjectCode, lock: TextIO) -> None:
        self.code = code
        self._lock = lock
        super().__init__(address, Handler)

    def close_inherited(self) -> None:
        """Close the host's socket and lock in a fork. Otherwise a dead host could not be replaced."""
        self.socket.close()
        self._lock.close()

    def process_request(self, request: socket.socket, client_address: str) -> None:
        self.code.refresh()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        super().service_actions()
        if self.active_children:
            self.last_used = time.monotonic()
        elif time.monotonic() - self.last_used > IDLE_SECONDS:
            log.info("idle for %.0f s, ending", IDLE_SECONDS)
            raise SystemExit(0)

    def handle_error(self, request: socket.socket, client_address: str) -> None:
        log.error("a request failed", exc_info=sys.exc_info())


class Handler(socketserver.BaseRequestHandler):
    request: socket.socket

    server: Host

    def handle(self) -> None:
        self.server.close_inherited()
        message, descriptors, _, _ = socket.recv_fds(self.request, 1 << 20, 1)
        if not message:
            return  # a client that only checked for a running host
        (output,) = descriptors
        while not message.endswith(b"\n"):
            if not (rest := self.request.recv(1 << 20)):
                return  # the client has died
            message += rest
        request = json.loads(message)
        child = preloaded.fork(lambda: _become_worker(request, output, self.request))
        os.close(output)
        with contextlib.suppress(OSError):  # if the client has hung up, _wait ends the step
            self.request.sendall(f"started {child}\n".encode())
        status, memory = _wait(child, self.request)
        log.info("%s of %s ended with %s", request["step"], request["night"], status)
        with contextlib.suppress(OSError):
            self.request.sendall(f"exited {status} {memory}\n".encode())


def _become_worker(request: dict[str, object], output: int, connection: socket.socket) -> None:
    """Turn this process into the step's. Never returns."""
    status = 1
    try:
        os.setsid()  # a process group, which ends with everything that the step starts
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        connection.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(ROOT)
        tempfile.tempdir = None  # forget the host's; the step reads TMPDIR
        from nightly.runtime import worker

        status = worker.run(request["step"], Path(request["night"]), Path(request["result"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # skip the host's exit handlers


def _wait(child: int, connection: socket.socket) -> tuple[int, int]:
    """Wait for the child, and end its group when the client hangs up.

    Return its exit status (negative: the signal that ended it) and its peak memory in bytes.
    """
    process = os.pidfd_open(child)
    poller = select.poll()
    poller.register(process, select.POLLIN)
    poller.register(connection, select.POLLIN | select.POLLRDHUP)
    timeout = None
    terminated = False
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(timeout)}
        if process in ready:
            _, status, used = os.wait4(child, 0)
            end_group(child, signal.SIGKILL)  # nothing that it started survives
            os.close(process)
            return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024
        end_group(child, signal.SIGKILL if terminated else signal.SIGTERM)
        if not terminated:
            poller.unregister(connection)
            terminated, timeout = True, GRACE_SECONDS * 1000


def main(path: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(path.with_suffix(".lock"), wait=False))
        except BlockingIOError:
            return 0  # another host runs or starts
        lock.truncate(0)
        lock.write(str(os.getpid()))  # so that a client can end this host if it hangs before it listens
        lock.flush()
        began = time.monotonic()
        preloaded.import_libraries()
        code = preloaded.ProjectCode()
        code.refresh()
        path.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        os.umask(0o177)
        with Host(socket_address(folder, path), code, lock) as server:
            os.umask(0o022)
            log.info("warm after %.1f s, listening on %s", time.monotonic() - began, path)
            Host.last_used = time.monotonic()
            try:
                server.serve_forever()
            finally:
                path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
