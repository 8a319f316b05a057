"""Where the model server of a serving volume is: what the environment says, or else what is recorded in the volume.

A command in a shell of its own has not the environment of the process that started the server. So whoever knows the
address records it in <serving>/server.json: `make up` once its server runs, `python -m nightly.cli.configure` and
each release where the environment names a server. NIGHTLY_SERVING_REST, NIGHTLY_SERVING_GRPC (host:port each) and
NIGHTLY_SERVING_BASE_PATH, the serving volume as the server sees it, win over the record.
"""

from pathlib import Path

from nightly.io import variables
from nightly.io.paths import Paths
from nightly.records.base import Contract, ContractError

FILE = "server.json"


class ServerAddress(Contract):
    """<serving>/server.json."""

    rest: str  # host:port
    grpc: str  # host:port
    base_path: str  # the serving volume as the server sees it


def path(paths: Paths) -> Path:
    return paths.serving / FILE


def find_address(paths: Paths) -> ServerAddress | None:
    """The model server's address, or None where none is known. Raises ContractError for half a configuration."""
    rest, grpc = variables.SERVING_REST.read(), variables.SERVING_GRPC.read()
    if rest and grpc:
        return ServerAddress(rest=rest, grpc=grpc, base_path=base_path(paths))
    if rest or grpc:
        raise ContractError(
            f"NIGHTLY_SERVING_REST is {rest!r} and NIGHTLY_SERVING_GRPC {grpc!r}: give both as host:port, or none"
        )
    return _recorded(paths)


def base_path(paths: Paths) -> str:
    """The serving volume as the server sees it."""
    recorded = _recorded(paths)
    return variables.SERVING_BASE_PATH.read() or (recorded.base_path if recorded else str(paths.serving))


def record(paths: Paths, address: ServerAddress) -> None:
    """Let commands in other shells know the server."""
    if _recorded(paths) != address:
        address.save(path(paths))


def forget(paths: Paths, address: ServerAddress) -> None:
    """Remove the record of a server that has ended, unless another has been recorded since."""
    if _recorded(paths) == address:
        path(paths).unlink(missing_ok=True)


def _recorded(paths: Paths) -> ServerAddress | None:
    try:
        return ServerAddress.load(path(paths))
    except FileNotFoundError:
        return None
