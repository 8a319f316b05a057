"""Private parts of Beam: the workers of its FnApiRunner, on several hosts."""

import contextlib
import socket
import threading
from itertools import count
from typing import Any

import grpc
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_fn_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    ControlConnection,
    ExternalWorkerHandler,
    WorkerHandler,
)
from apache_beam.transforms.environments import ExternalEnvironment

CONNECT_SECONDS = 60
LOST = "a worker ended"


class PoolNotReachedError(RuntimeError):
    """No worker pool answers at this address."""


def runner_on(pools: list[str]) -> FnApiRunner:
    """Return a runner whose workers run on the hosts of these worker pools, HOST:PORT, in turn."""
    return FnApiRunner(default_environment=ExternalEnvironment(",".join(pools)))


@WorkerHandler.register_environment(common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload)
class PoolWorkerHandler(ExternalWorkerHandler):
    """Beam's handler for one pool, which takes several, by commas: each worker is the next pool's.

    The worker connects to the address of this host that reaches the pool. Beam's handler gives it this host's name,
    which other hosts need not know. And Beam's runner waits for ever for a worker that ended.
    """

    _workers = count()

    def __init__(self, payload, state, provision_info, grpc_server) -> None:
        pools = payload.endpoint.url.split(",")
        self._pool = pools[next(self._workers) % len(pools)]
        host, _, port = self._pool.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), CONNECT_SECONDS) as connection:
                self._host = connection.getsockname()[0]
        except OSError as error:
            raise PoolNotReachedError(
                f"the worker pool {self._pool} cannot be reached: {error}; start it on that host"
            ) from error
        own = beam_runner_api_pb2.ExternalPayload()
        own.CopyFrom(payload)
        own.endpoint.url = self._pool
        super().__init__(own, state, provision_info, grpc_server)
        _fail_when_lost(self.control_conn, self._pool)

    def host_from_worker(self) -> str:
        return self._host


def _fail_when_lost(connection: ControlConnection, pool: str) -> None:
    """Have all requests to a worker fail once it is gone. Beam's runner would wait for their answers for ever."""
    push, lost = connection.push, threading.Event()
    error = f"{LOST} on {pool}, before the job did: its own log there says why"

    def fail() -> None:
        for name, future in list(connection._futures_by_id.items()):
            future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=name, error=error))

    def read() -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in connection._input:
                connection._futures_by_id.pop(answer.instruction_id).set(answer)
        lost.set()
        fail()

    def push_or_fail(request: Any) -> Any:
        future = push(request)
        if lost.is_set():
            fail()
        return future

    connection.push = push_or_fail
    connection._read_thread = threading.Thread(target=read, daemon=True)
