"""A process that forks the children of tests.

It has imported what they need once: TensorFlow takes seconds. A fork of the tests' own process would copy the page
tables of all that the tests have done, and take its gRPC threads' locks along.
"""

import os
import subprocess
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "nightly_server.grpc_services",
        "nightly_server.rest",
        "nightly.release.google_cloud.gcs",
        "tests.support.dying",
        "tests.support.releases",
        "tests.support.servers",
    ]
)


class Fork:
    """A call in a child, with the interface of subprocess.Popen.

    It has the environment of now. It ends with the tests at the latest.
    """

    def __init__(self, work: Callable[..., object], *arguments: Any) -> None:
        ends = [FORKS.Pipe(duplex=False) for _ in range(2)]
        writers = [writer for _, writer in ends]
        self._child = FORKS.Process(target=_run, args=(work, arguments, dict(os.environ), writers), daemon=True)
        self._child.start()
        for writer in writers:
            writer.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno()), buffering=1) for reader, _ in ends)
        self.pid, self.kill, self.terminate = self._child.pid, self._child.kill, self._child.terminate

    def poll(self) -> int | None:
        return self._child.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._child.join(timeout)
        if self._child.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self._child.exitcode


def _run(
    work: Callable[..., object], arguments: tuple, environment: dict[str, str], outputs: list[Connection]
) -> object:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), descriptor)
        output.close()
    return work(*arguments)
