"""A model server that speaks TensorFlow Serving's protocol, for machines without Docker.

    python -m nightly_server --port=8500 --rest_api_port=8501 --model_config_file=var/serving/models.config

The flags are those of tensorflow_model_server (flags.py). It prints one line when it is ready:

    ready grpc=127.0.0.1:8500 rest=127.0.0.1:8501
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from nightly_server import config, limits
from nightly_server.errors import ServingError
from nightly_server.flags import parse_flags

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2

    from nightly_server.manager import Manager
    from nightly_server.monitoring import Metrics

log = logging.getLogger("nightly_server")


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    flags = parse_flags(arguments)
    try:
        _serve(flags)
    except (ServingError, OSError) as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True)
class Files:
    """The parsed configuration files of the command line."""

    models: model_server_config_pb2.ModelServerConfig
    batching: config.BatchingParameters
    prometheus_path: str  # "" if no metrics are served


def _read_files(flags: argparse.Namespace) -> Files:
    """Read and check every configuration file. Raises ServingError."""
    if flags.model_config_file:
        models = config.read_model_config(flags.model_config_file)
    else:
        models = config.single_model_config(flags.model_name, flags.model_base_path)
    config.validate(models)
    batching, monitoring = flags.batching_parameters_file, flags.monitoring_config_file
    return Files(
        models,
        config.read_batching_parameters(batching) if batching else config.BatchingParameters(),
        config.read_prometheus_path(monitoring) if monitoring else "",
    )


def _serve(flags: argparse.Namespace) -> None:
    files = _read_files(flags)  # fails before the import of TensorFlow, which takes seconds

    import tensorflow as tf

    from nightly_server import grpc_services, rest  # noqa: F401, before processes are forked
    from nightly_server.monitoring import Metrics
    from nightly_server.processes import Processes

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # hides deprecations of the session API
    gc.freeze()  # later collections then skip all of TensorFlow
    processes = Processes(flags.rest_api_timeout_in_ms / 1e3)  # before any thread starts
    max_connections = limits.max_connections()
    metrics = Metrics()
    manager = _manager(flags, files, metrics)
    _start_polling(flags, manager)
    server, port = _start_grpc(flags, manager, metrics, max_connections)
    try:
        asyncio.run(_run(flags, port, manager, metrics, processes, max_connections, files.prometheus_path))
    finally:
        server.stop(grace=5).wait()
        manager.stop()


def _manager(flags: argparse.Namespace, files: Files, metrics: Metrics) -> Manager:
    """Return the manager, after it has loaded the configured models."""
    import tensorflow as tf

    from nightly_server.batching import BatchScheduler
    from nightly_server.manager import Manager
    from nightly_server.servable import Servable
    from nightly_server.warmup import warm_up

    batching = BatchScheduler(files.batching, metrics) if flags.enable_batching else None
    session = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or flags.tensorflow_session_parallelism,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or flags.tensorflow_session_parallelism,
        gpu_options={"per_process_gpu_memory_fraction": flags.per_process_gpu_memory_fraction},
    )

    def load(model: str, version: int, path: str) -> Servable:
        servable = Servable(model, version, path, session=session, metrics=metrics, batching=batching)
        try:
            if flags.enable_model_warmup:
                warm_up(servable, path, metrics)
        except BaseException:
            servable.close()
            raise
        return servable

    manager = Manager(
        load,
        labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        retries=flags.max_num_load_retries,
        retry_seconds=flags.load_retry_interval_micros / 1e6,
    )
    manager.reload(files.models)
    return manager


def _start_polling(flags: argparse.Namespace, manager: Manager) -> None:
    """Poll the file system and the configuration file, at the intervals of the flags."""
    if flags.file_system_poll_wait_seconds > 0:
        _every(flags.file_system_poll_wait_seconds, manager.poll, "file-system-poll")
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        _every(
            flags.model_config_file_poll_wait_seconds,
            lambda: manager.reload(config.read_model_config(flags.model_config_file)),
            "config-file-poll",
        )


def _start_grpc(
    flags: argparse.Namespace, manager: Manager, metrics: Metrics, max_connections: int
) -> tuple[grpc.Server, int]:
    """Start the gRPC server; return it and its port."""
    from nightly_server import grpc_services

    options = {"grpc.max_allowed_incoming_connections": max_connections, **limits.GRPC_OPTIONS}
    options |= dict(flags.grpc_channel_arguments)
    server = grpc.server(
        ThreadPoolExecutor(flags.grpc_max_threads, "grpc"),
        options=list(options.items()),
        interceptors=[grpc_services.FreesMemory()],
    )
    grpc_services.register(server, manager, metrics)
    port = _listen(server, f"{flags.bind_address}:{flags.port}")
    if flags.grpc_socket_path:
        _listen(server, f"unix:{flags.grpc_socket_path}")
    server.start()
    return server, port


def _listen(server: grpc.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen for gRPC on {address}: {error}") from None


async def _run(
    flags: argparse.Namespace, grpc_port: int, manager, metrics, processes, max_connections: int, prometheus_path: str
) -> None:
    """Serve REST, print the ready line, and wait for SIGTERM or SIGINT."""
    from nightly_server.rest import RestApi

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready = f"ready grpc={flags.bind_address}:{grpc_port}"
    async with AsyncExitStack() as stack:
        if flags.rest_api_port is not None:
            threads = ThreadPoolExecutor(flags.rest_api_num_threads, "rest")
            timeout = flags.rest_api_timeout_in_ms / 1e3
            api = RestApi(
                manager,
                metrics,
                threads,
                processes,
                prometheus_path,
                timeout=timeout,
                max_body_bytes=limits.MAX_MESSAGE_BYTES,
            )
            port = await stack.enter_async_context(_rest(api, flags, max_connections, timeout))
            ready += f" rest={flags.bind_address}:{port}"
        print(ready, flush=True)
        await stop.wait()


@asynccontextmanager
async def _rest(api, flags: argparse.Namespace, max_connections: int, timeout: float) -> AsyncIterator[int]:
    """Serve `api` within the block; yield its port."""
    from aiohttp import web

    from nightly_server.connections import Connections

    # The application decompresses bodies itself: aiohttp fails with 500 on some invalid ones, and hangs on others.
    runner = web.AppRunner(
        api.application,
        access_log=None,
        shutdown_timeout=5,
        auto_decompress=False,
        keepalive_timeout=limits.IDLE_SECONDS,
        lingering_time=2,
    )
    await runner.setup()
    with socket.create_server((flags.bind_address, flags.rest_api_port), backlog=128) as listener:
        connections = Connections(runner.server, listener, max_connections, timeout)
        api.on_request = connections.request_arrived
        accepting = asyncio.create_task(connections.accept())
        yield listener.getsockname()[1]
        accepting.cancel()
        await runner.cleanup()


def _every(seconds: float, action: Callable[[], None], name: str) -> None:
    def loop() -> None:
        pause = threading.Event()
        while not pause.wait(seconds):
            try:
                action()
            except ServingError as error:
                log.error("%s: %s", name, error)
            except Exception:
                log.exception("%s", name)

    threading.Thread(target=loop, name=name, daemon=True).start()
