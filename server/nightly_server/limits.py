"""What one client may take of the server, so that the others are answered; docs/how-to/serving.md lists the limits.

TensorFlow Serving has no flag for any of them but `--rest_api_timeout_in_ms`, which is how long a request may take to
arrive, too. Those of gRPC are defaults that `--grpc_channel_arguments` replaces.
"""

import logging
import os
import resource

MAX_MESSAGE_BYTES = 2**31 - 1  # over gRPC and REST alike: what TensorFlow Serving sets, and a protobuf can be
MAX_INFLATED_BYTES = 100 * 2**20  # of a compressed body; TensorFlow Serving: 10 MiB
MAX_HELD_BYTES = 2 * MAX_MESSAGE_BYTES  # of all large bodies that are read or worked on
LARGE_BODY_BYTES = 512 * 2**10  # more is read in a process of its own, which costs some 30 ms
LARGE_ANSWER_BYTES = 256 * 2**10  # of tensors: to write this many as text takes 0.1 s
LARGE_REQUESTS = os.cpu_count() or 1  # worked on at the same time; the others wait
BYTES_PER_SECOND = 2**20  # a body has a second more for each of these, and so has the client for a large answer

MAX_CONNECTIONS = 1000  # of REST, and of gRPC
RESERVED_DESCRIPTORS = 256  # for models, libraries and large bodies
IDLE_SECONDS = 75  # after which a REST connection without a request is closed
DEAD_PEER_SECONDS = 60  # in which a peer must take what is sent to it

QUOTED_BYTES = 256  # of a request in an error
MAX_ERROR_BYTES = 4096  # gRPC drops the message of an error beyond 8 KiB

GRPC_OPTIONS = {
    "grpc.so_reuseport": 0,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.server_handshake_timeout_ms": 30_000,
    "grpc.max_connection_idle_ms": 600_000,  # clients connect again by themselves
    "grpc.keepalive_time_ms": DEAD_PEER_SECONDS * 1000,
    "grpc.keepalive_timeout_ms": 20_000,
}

log = logging.getLogger(__name__)


def max_connections() -> int:
    """Connections of each of the two APIs, as far as the operating system lets this process have descriptors."""
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
    """The beginning of `text` where it has more than `limit` bytes."""
    data = text[: limit + 1].encode(errors="replace")
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"
