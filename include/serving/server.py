"""A model server that speaks TensorFlow Serving's protocol, for machines without Docker.

    python -m include.serving.server --port 8500 --rest_api_port 8501 --model_config_file include/serving/models.config

The flags are those of tensorflow_model_server; `--bind_address` is added. It prints one line when it serves:

    ready grpc=127.0.0.1:8500 rest=127.0.0.1:8501
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from include.serving import config
from include.serving.errors import ServingError

log = logging.getLogger("include.serving")


def main(arguments: list[str] | None = None) -> int:
    flags = parse_flags(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _serve(flags)
    except (ServingError, OSError) as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.serving.server", description=__doc__.partition("\n")[0])
    many = 4 * (os.cpu_count() or 1)

    def flag(name: str, default, text: str) -> None:
        if isinstance(default, bool):  # --name, --name=true and --name=false, as in tensorflow_model_server
            parser.add_argument(f"--{name}", type=_boolean, nargs="?", const=True, default=default, help=text)
        else:
            parser.add_argument(f"--{name}", type=str if default is None else type(default), default=default, help=text)

    flag("port", 8500, "gRPC; 0 takes a free port")
    parser.add_argument("--rest_api_port", type=int, help="REST; 0 takes a free port, without it there is no REST")
    flag("bind_address", "127.0.0.1", "the address of both ports; 0.0.0.0 lets other machines in")
    flag("model_name", "default", "with --model_base_path")
    flag("model_base_path", "", "a folder of version folders, for one model without a configuration file")
    flag("model_config_file", "", "ModelServerConfig; replaces --model_name and --model_base_path")
    flag("model_config_file_poll_wait_seconds", 0, "read the file again this often; 0 is never")
    flag("file_system_poll_wait_seconds", 1, "look for versions this often; 0 is once")
    flag("enable_batching", False, "run concurrent requests together")
    flag("batching_parameters_file", "", "BatchingParameters")
    flag("monitoring_config_file", "", "MonitoringConfig")
    flag("allow_version_labels_for_unavailable_models", False, "a new label may point at a version not yet loaded")
    flag("enable_model_warmup", True, "replay assets.extra/tf_serving_warmup_requests before a version is available")
    flag("rest_api_num_threads", 0, f"{many}, or 64 with batching")
    flag("grpc_max_threads", 0, f"{many}, or 64 with batching")
    flag("grpc_channel_arguments", "", "key=value,…")
    flags = parser.parse_args(arguments)
    if bool(flags.model_config_file) == bool(flags.model_base_path):
        parser.error("give --model_config_file, or --model_base_path with --model_name")
    if flags.batching_parameters_file and not flags.enable_batching:
        parser.error("--batching_parameters_file needs --enable_batching")
    # With batching a thread waits while its request does: there must be as many as rows that shall run together.
    threads = 64 if flags.enable_batching else many
    flags.rest_api_num_threads = flags.rest_api_num_threads or threads
    flags.grpc_max_threads = flags.grpc_max_threads or threads
    return flags


def _serve(flags: argparse.Namespace) -> None:
    # Everything that can be wrong in the files is found before TensorFlow is imported, which takes seconds.
    if flags.model_config_file:
        models = config.read_model_config(flags.model_config_file)
    else:
        models = config.single_model_config(flags.model_name, flags.model_base_path)
    config.validate(models)
    batching_file = flags.batching_parameters_file
    parameters = config.read_batching_parameters(batching_file) if batching_file else config.BatchingParameters()
    prometheus_path = config.read_prometheus_path(flags.monitoring_config_file) if flags.monitoring_config_file else ""

    import tensorflow as tf

    from include.serving import grpc_services
    from include.serving.batching import BatchScheduler
    from include.serving.manager import Manager
    from include.serving.monitoring import Metrics
    from include.serving.servable import Servable

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # deprecations of the session that we want
    gc.freeze()  # a collection after an unload need not look through all of TensorFlow
    metrics = Metrics()
    batching = BatchScheduler(parameters, metrics) if flags.enable_batching else None

    def load(model: str, version: int, path: str) -> Servable:
        return Servable(model, version, path, metrics=metrics, batching=batching, warmup=flags.enable_model_warmup)

    manager = Manager(load, labels_for_unavailable=flags.allow_version_labels_for_unavailable_models)
    manager.reload(models)
    if flags.file_system_poll_wait_seconds > 0:
        _every(flags.file_system_poll_wait_seconds, manager.poll, "file-system-poll")
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        _every(
            flags.model_config_file_poll_wait_seconds,
            lambda: manager.reload(config.read_model_config(flags.model_config_file)),
            "config-file-poll",
        )
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    for pair in filter(None, flags.grpc_channel_arguments.split(",")):
        key, _, value = pair.partition("=")
        options.append((key, int(value) if value.lstrip("-").isdigit() else value))
    server = grpc.server(ThreadPoolExecutor(flags.grpc_max_threads, "grpc"), options=options)
    grpc_services.register(server, manager, metrics)
    try:
        port = server.add_insecure_port(f"{flags.bind_address}:{flags.port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen for gRPC on {flags.bind_address}:{flags.port}: {error}") from None
    server.start()
    try:
        asyncio.run(_run(flags, port, manager, metrics, prometheus_path))
    finally:
        server.stop(grace=5).wait()
        manager.stop()


async def _run(flags: argparse.Namespace, grpc_port: int, manager, metrics, prometheus_path: str) -> None:
    """Serve REST, say that all is ready, and wait for SIGTERM or SIGINT."""
    from aiohttp import web

    from include.serving import rest

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready = f"ready grpc={flags.bind_address}:{grpc_port}"
    runner = None
    if flags.rest_api_port is not None:
        threads = ThreadPoolExecutor(flags.rest_api_num_threads, "rest")
        app = rest.application(manager, metrics, threads, prometheus_path)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        await web.TCPSite(runner, flags.bind_address, flags.rest_api_port).start()
        ready += f" rest={flags.bind_address}:{runner.addresses[0][1]}"
    print(ready, flush=True)
    await stop.wait()
    if runner is not None:
        await runner.cleanup()


def _every(seconds: float, do: Callable[[], None], name: str) -> None:
    def loop() -> None:
        pause = threading.Event()
        while not pause.wait(seconds):
            try:
                do()
            except ServingError as error:
                log.error("%s: %s", name, error)
            except Exception:
                log.exception("%s", name)

    threading.Thread(target=loop, name=name, daemon=True).start()


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text.lower() in ("true", "1")


if __name__ == "__main__":
    sys.exit(main())
