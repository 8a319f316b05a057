"""The address of a serving volume's model server, from the environment or else from <serving>/server.json.

A command in another shell lacks the environment of the process that started the server. So the address is recorded in
<serving>/server.json: by `make up` once its server runs, and by `python -m nightly.cli.configure` and each release if
the environment names a server. NIGHTLY_SERVING_REST, NIGHTLY_SERVING_GRPC (host:port each) and
NIGHTLY_SERVING_BASE_PATH (the serving volume as the server sees it) override the record.
"""

from pathlib import Path
from typing import ClassVar

from nightly.io import variables
from nightly.io.paths import Paths
from nightly.records.base import Contract, ContractError


class ServerAddress(Contract):
    """A model server's address."""

    FILE: ClassVar = "server.json"  # in the serving volume

    rest: str  # host:port
    grpc: str  # host:port
    base_path: str  # the serving volume as the server sees it


def path(paths: Paths) -> Path:
    return paths.serving / ServerAddress.FILE


def find_address(paths: Paths) -> ServerAddress | None:
    """Return the model server's address, or None. Raises ContractError if only one of REST and gRPC is set."""
    rest, grpc = variables.SERVING_REST.read(), variables.SERVING_GRPC.read()
    if rest and grpc:
        return ServerAddress(rest=rest, grpc=grpc, base_path=base_path(paths))
    if rest or grpc:
        raise ContractError(
            f"NIGHTLY_SERVING_REST is {rest!r} and NIGHTLY_SERVING_GRPC {grpc!r}: give both as host:port, or none"
        )
    return _recorded(paths)


def base_path(paths: Paths) -> str:
    """Return the serving volume as the server sees it."""
    recorded = _recorded(paths)
    return variables.SERVING_BASE_PATH.read() or (recorded.base_path if recorded else str(paths.serving))


def record(paths: Paths, address: ServerAddress) -> None:
    """Record the server's address for commands in other shells."""
    if _recorded(paths) != address:
        address.save(path(paths))


def forget(paths: Paths, address: ServerAddress) -> None:
    """Remove the record of a server that has ended, unless it has another address by now."""
    if _recorded(paths) == address:
        path(paths).unlink(missing_ok=True)


def _recorded(paths: Paths) -> ServerAddress | None:
    try:
        return ServerAddress.load(path(paths))
    except FileNotFoundError:
        return None
