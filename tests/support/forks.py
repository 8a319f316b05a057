"""Processes that fork the children of tests: a small one, and one with TensorFlow, whose import takes seconds.

A fork of the tests' own process would copy the page tables of all that they have done, and its gRPC threads' locks.
"""

import os
import subprocess
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.dying", "tests.support.releases", "nightly.release.google_cloud.gcs"])
WITH_TENSORFLOW = forkserver.ForkServer()  # a context has one for all
WITH_TENSORFLOW.set_forkserver_preload(["tests.support.servers", "nightly_server.rest", "nightly_server.grpc_services"])


class Fork:
    """A call in a child that has TensorFlow, with the interface of subprocess.Popen.

    It has the environment of now. It ends with the tests at the latest.
    """

    def __init__(self, work: Callable[..., object], *arguments: Any) -> None:
        ends = [FORKS.Pipe(duplex=False) for _ in range(2)]
        writers = [writer for _, writer in ends]
        self._child = FORKS.Process(target=_run, args=(work, arguments, dict(os.environ), writers), daemon=True)
        with mock.patch.object(forkserver, "connect_to_new_process", WITH_TENSORFLOW.connect_to_new_process):
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
