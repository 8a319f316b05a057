"""Converts large JSON texts in separate processes.

All threads of a process share Python's global lock. Parsing 100 MB of JSON holds it for a second; writing it competes
for it for a minute, 5 ms at a time. A separate process has its own lock, and frees all its memory when it ends.
"""

import asyncio
import logging
import math
import os
import pickle
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, BinaryIO

import grpc

from nightly_server.bodies import scratch_file
from nightly_server.errors import ServingError

NICENESS = 5  # small requests come first

log = logging.getLogger(__name__)

Work = Callable[..., None]  # (file to read, file to write, *arguments)


class Processes:
    """Forks a process that forks the workers. Create it before any thread: a fork does not copy threads.

    :param seconds: the limit of CPU time for each job
    """

    def __init__(self, seconds: float) -> None:
        self._template, theirs = socket.socketpair()
        if os.fork() == 0:
            self._template.close()
            _fork_workers(theirs, math.ceil(seconds) + 1)
        theirs.close()

    def close(self) -> None:
        self._template.close()

    async def run(self, work: Work, source: BinaryIO, *arguments: Any) -> BinaryIO:
        """Run `work` in a process; return the file that it wrote. Raise its error as ServingError."""
        source.flush()
        source.seek(0)
        target = scratch_file()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._template, [b"\0"], [f.fileno() for f in (theirs, source, target)])
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(pickle.dumps((work, arguments)))
            writer.write_eof()
            outcome = await reader.read()
        except ConnectionError:
            outcome = b""
        finally:
            writer.close()
        if not outcome:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "The request took too much memory or time to convert"
            )
        failure = pickle.loads(outcome)
        if failure is not None:
            raise failure
        target.seek(0)
        return target


def _fork_workers(jobs: socket.socket, cpu_seconds: int) -> None:
    """Fork a worker for each job until the server ends; never return."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they are for the server
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: nobody waits for a worker
        while descriptors := socket.recv_fds(jobs, 1, 3)[1]:
            try:
                if os.fork() == 0:
                    jobs.close()
                    _work(*descriptors, cpu_seconds)
            except OSError:
                log.exception("no process for a large request")
            for descriptor in descriptors:
                os.close(descriptor)
    finally:
        os._exit(0)


def _work(conversation: int, source: int, target: int, cpu_seconds: int) -> None:
    """Run one job; never return."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        os.nice(NICENESS)
        with socket.socket(fileno=conversation) as talk:
            with talk.makefile("rb") as job:
                work, arguments = pickle.load(job)
            failure = None
            try:
                with open(source, "rb") as reading, open(target, "wb") as writing:
                    work(reading, writing, *arguments)
            except Exception as error:
                failure = ServingError.of(error)
                if failure.code is grpc.StatusCode.INTERNAL:
                    log.exception("%s", work.__name__)
            talk.sendall(pickle.dumps(failure))
    finally:
        os._exit(0)
