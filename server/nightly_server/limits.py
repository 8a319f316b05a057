"""Limits for one client, so that the server can answer the others; docs/how-to/serving.md lists them.

TensorFlow Serving has a flag for only one of them: `--rest_api_timeout_in_ms`, which here also limits a request's time
to arrive. The gRPC limits are defaults that `--grpc_channel_arguments` replaces.
"""

import logging
import os
import resource

MAX_MESSAGE_BYTES = 2**31 - 1  # for gRPC and REST: TensorFlow Serving's limit, and protobuf's
MAX_INFLATED_BYTES = 100 * 2**20  # of a decompressed body; TensorFlow Serving: 10 MiB
MAX_HELD_BYTES = 2 * MAX_MESSAGE_BYTES  # of all large bodies in progress
LARGE_BODY_BYTES = 512 * 2**10  # larger bodies are parsed in a separate process, which costs about 30 ms
LARGE_ANSWER_BYTES = 256 * 2**10  # of tensors: writing this many as text takes 0.1 s
LARGE_REQUESTS = os.cpu_count() or 1  # in progress at once; the others wait
BYTES_PER_SECOND = 2**20  # one more second for each of these, for a body to arrive and a client to take a response

MAX_CONNECTIONS = 1000  # for REST, and as many for gRPC
RESERVED_DESCRIPTORS = 256  # for models, libraries and large bodies
IDLE_SECONDS = 75  # a REST connection without a request is closed after this
DEAD_PEER_SECONDS = 60  # the time in which a peer must acknowledge data

QUOTED_BYTES = 256  # of a request, in an error
MAX_ERROR_BYTES = 4096  # gRPC drops the message of an error beyond 8 KiB

GRPC_OPTIONS = {
    "grpc.so_reuseport": 0,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.server_handshake_timeout_ms": 30_000,
    "grpc.max_connection_idle_ms": 600_000,  # clients reconnect by themselves
    "grpc.keepalive_time_ms": DEAD_PEER_SECONDS * 1000,
    "grpc.keepalive_timeout_ms": 20_000,
}

log = logging.getLogger(__name__)


def max_connections() -> int:
    """Return the connections of each API, within the operating system's limit of file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MAX_CONNECTIONS + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    else:
        soft = needed
    connections = max(min(MAX_CONNECTIONS, (soft - RESERVED_DESCRIPTORS) // 2), 16)
    if connections < MAX_CONNECTIONS:
        log.warning("%s connections of REST and of gRPC: the limit of open files is %s", connections, soft)
    return connections


def excerpt(text: str, limit: int = QUOTED_BYTES) -> str:
    """Return `text`, shortened if it has more than `limit` bytes."""
    data = text[: limit + 1].encode(errors="replace")
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"
