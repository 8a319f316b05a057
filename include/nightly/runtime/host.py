"""The warm host: imports TensorFlow and TFX once, then forks a child for each step.

    python -m nightly.runtime.host SOCKET

Importing TFX takes 20 s on two cores; a fork takes milliseconds. The project's code is imported too, anew when a file
of it has changed, so that an edit holds from the next step on; the user's own, the model's folder, in the child. The
host listens on a Unix socket in a folder that only its user can open, and ends by itself when nothing was asked of it
for a while.

A client sends one JSON line (`step`, `night`, `result`, `environment`) together with the file descriptor that the
child's output goes to. It gets `started PID` back, then `exited STATUS MEMORY`, the most memory that the child held, in
bytes. When the client hangs up, the child is ended.

Three processes share the work, and each may be killed: the host accepts, a supervisor forked from it for each request
watches the step, and the step runs. The supervisor closes the host's listening socket and lock, so that a dead host's
place is free at once while its steps run on. A step ends with its supervisor.
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
GRACE_SECONDS = 5  # between asking a child to end and ending it

log = logging.getLogger("nightly.host")


class Host(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """One process a request: the forked handler supervises the step's own process."""

    max_children = 64
    block_on_close = False
    request_queue_size = 64
    last_used = time.monotonic()

    def __init__(self, address: str, code: preloaded.ProjectCode, lock: TextIO) -> None:
        self.code = code
        self._lock = lock
        super().__init__(address, Handler)

    def close_inherited(self) -> None:
        """Close, in a fork, what only the host may hold: else its place stays taken when it dies."""
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
            return  # a client that only looked whether the host is there
        (output,) = descriptors
        while not message.endswith(b"\n"):
            message += self.request.recv(1 << 20)
        request = json.loads(message)
        child = preloaded.fork(lambda: _become_worker(request, output, self.request))
        os.close(output)
        with contextlib.suppress(OSError):  # the client may have hung up: then the step is ended below
            self.request.sendall(f"started {child}\n".encode())
        status, memory = _wait(child, self.request)
        log.info("%s of %s ended with %s", request["step"], request["night"], status)
        with contextlib.suppress(OSError):
            self.request.sendall(f"exited {status} {memory}\n".encode())


def _become_worker(request: dict[str, object], output: int, connection: socket.socket) -> None:
    """Never returns: this process is the step's from here on."""
    status = 1
    try:
        os.setsid()  # a group of its own, so that whatever it starts ends with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        connection.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(ROOT)
        tempfile.tempdir = None  # the host's; the step has its own in TMPDIR
        from nightly.runtime import worker

        status = worker.run(request["step"], Path(request["night"]), Path(request["result"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the host's own exit handlers are not this process's


def _wait(child: int, connection: socket.socket) -> tuple[int, int]:
    """Wait for the child, and end its group when the client hangs up.

    Returns its exit status (negative: the signal that ended it), and the most memory that it held, in bytes.
    """
    process = os.pidfd_open(child)
    poller = select.poll()
    poller.register(process, select.POLLIN)
    poller.register(connection, select.POLLIN | select.POLLRDHUP)
    waiting = None
    asked = False
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(waiting)}
        if process in ready:
            _, status, used = os.wait4(child, 0)
            end_group(child, signal.SIGKILL)  # nothing that it started outlives it
            os.close(process)
            return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024
        end_group(child, signal.SIGKILL if asked else signal.SIGTERM)
        if not asked:
            poller.unregister(connection)
            asked, waiting = True, GRACE_SECONDS * 1000


def main(path: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(path.with_suffix(".lock"), wait=False))
        except BlockingIOError:
            return 0  # another host is there, or on its way
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
