"""The flags of tensorflow_model_server that apply to this server.

An unsupported flag that would change what clients get is refused; a flag that only tunes TensorFlow Serving's internals
is accepted with a warning. So a command line of this server also starts TensorFlow Serving, with two exceptions:
`--bind_address`, and ports of 0, which take a free port here and switch the API off there.
"""

import argparse
import difflib
import logging
import os

log = logging.getLogger("nightly_server")

# Flags of tensorflow_model_server 2.20 (model_servers/main.cc) that have no effect here.
NO_DIFFERENCE = {
    "num_load_threads": "versions are loaded one after the other, beside the requests",
    "num_unload_threads": "versions are unloaded one after the other, beside the requests",
    "flush_filesystem_caches": "the page cache is left to the operating system",
    "remove_unused_fields_from_bundle_metagraph": "the graph is not kept twice",
    "enable_profiler": "there is no profiler service",
    "xla_cpu_compilation_enabled": "TensorFlow compiles what a model asks for",
    "xla_gpu_compilation_enabled": "TensorFlow compiles what a model asks for",
    "num_tflite_pools": "there are no TensorFlow Lite models",
    "num_tflite_interpreters_per_pool": "there are no TensorFlow Lite models",
    "skip_initialize_tpu": "there is no TPU",
}
NOT_HERE = {
    "rest_api_enable_cors_support",
    "enable_per_model_batching_parameters",
    "tensorflow_session_config_file",
    "use_alts_credentials",
    "ssl_config_file",
    "platform_config_file",
    "saved_model_tags",
    "num_request_iterations_for_warmup",
    "prefer_tflite_model",
    "use_tflite_model",
    "enable_signature_method_name_check",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
    "version",
}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m nightly_server",
        description="A model server that speaks TensorFlow Serving's protocol, for machines without Docker.",
        allow_abbrev=False,  # tensorflow_model_server knows no abbreviations
    )

    def flag(name: str, default, text: str) -> None:
        if isinstance(default, bool):  # --name, --name=true and --name=false
            parser.add_argument(f"--{name}", type=_boolean, nargs="?", const=True, default=default, help=text)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default, help=text)

    flag("port", 8500, "gRPC; 0 takes a free port")
    flag("grpc_socket_path", "", "gRPC on this Unix socket too")
    parser.add_argument("--rest_api_port", type=int, help="REST; 0 takes a free port, without it there is no REST")
    flag("bind_address", "127.0.0.1", "the address of both ports; 0.0.0.0 lets other machines in")
    flag("model_name", "default", "with --model_base_path")
    flag("model_base_path", "", "a folder of version folders, for one model without a configuration file")
    flag("model_config_file", "", "ModelServerConfig; replaces --model_name and --model_base_path")
    flag("model_config_file_poll_wait_seconds", 0, "read the file again this often; 0 is never")
    flag("file_system_poll_wait_seconds", 1, "look for versions this often; 0 is once")
    flag("max_num_load_retries", 5, "how often a version that does not load is tried again")
    flag("load_retry_interval_micros", 60_000_000, "the pause before each of these; negative is none")
    flag("allow_version_labels_for_unavailable_models", False, "a new label may point at a version not yet loaded")
    flag("enable_model_warmup", True, "replay assets.extra/tf_serving_warmup_requests before a version is available")
    flag("enable_batching", False, "run concurrent requests together")
    flag("batching_parameters_file", "", "BatchingParameters")
    flag("monitoring_config_file", "", "MonitoringConfig")
    flag("rest_api_timeout_in_ms", 30_000, "for the work on a REST call (504), and for its arrival (408)")
    flag("rest_api_num_threads", 0, "4 a CPU, or 64 with batching")
    flag("grpc_max_threads", 0, "4 a CPU, or 64 with batching")
    parser.add_argument("--grpc_channel_arguments", type=_channel_arguments, default=[], help="key=value,…")
    flag("tensorflow_session_parallelism", 0, "threads for and within the operations of a run; 0: by the CPUs")
    flag("tensorflow_intra_op_parallelism", 0, "threads within an operation; replaces the above")
    flag("tensorflow_inter_op_parallelism", 0, "operations at a time; replaces the above")
    flag("per_process_gpu_memory_fraction", 0.0, "of the GPU's memory, taken at the start; 0: as needed")
    for name in NO_DIFFERENCE:
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed and checked flags; exit with status 2 and a message for wrong ones, as argparse does."""
    command = parser()
    flags, others = command.parse_known_args(arguments)
    for other in others:
        command.error(_unknown(other, known=list(vars(flags))))
    for name, why in NO_DIFFERENCE.items():
        if getattr(flags, name) is not None:
            log.warning("--%s makes no difference here: %s", name, why)
    if not flags.model_config_file and not flags.model_base_path:
        command.error("give --model_config_file, or --model_base_path with --model_name")
    if flags.model_config_file and flags.model_base_path:  # the official image's entrypoint always passes both
        log.warning("--model_name and --model_base_path are ignored: --model_config_file names the models")
    if flags.batching_parameters_file and not flags.enable_batching:
        command.error("--batching_parameters_file needs --enable_batching")
    # With batching each waiting request holds a thread, so there must be as many threads as requests in a batch.
    threads = 64 if flags.enable_batching else 4 * (os.cpu_count() or 1)
    flags.rest_api_num_threads = flags.rest_api_num_threads or threads
    flags.grpc_max_threads = flags.grpc_max_threads or threads
    return flags


def _unknown(argument: str, known: list[str]) -> str:
    name = argument.lstrip("-").partition("=")[0]
    if name in NOT_HERE:
        return (
            f"--{name} of tensorflow_model_server is not done by this server: leave it out, or run TensorFlow Serving"
        )
    near = difflib.get_close_matches(name, known, n=1)
    return f"unrecognized arguments: {argument}" + (f" (did you mean --{near[0]}?)" if near else "")


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Return the key-value pairs; integers become int, as in tensorflow_model_server."""
    pairs: list[tuple[str, int | str]] = []
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise argparse.ArgumentTypeError(f"{pair!r} is not key=value")
        pairs.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return pairs


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
    return text.lower() in ("true", "1")
