"""Where the model server of a serving volume is: what the environment says, or else what is recorded in the volume.

A command in a shell of its own has not the environment of the process that started the server. So whoever knows the
address records it in <serving>/server.json: `make up` once its server runs, `python -m nightly.cli.configure` and
each release where the environment names a server. NIGHTLY_SERVING_REST, NIGHTLY_SERVING_GRPC (host:port each) and
NIGHTLY_SERVING_BASE_PATH, the serving volume as the server sees it, win over the record.
"""

from pathlib import Path

from nightly.io import variables
from nightly.io.paths import Places
from nightly.records.base import Contract, ContractError

FILE = "server.json"


class ServerAddress(Contract):
    """<serving>/server.json."""

    rest: str  # host:port
    grpc: str  # host:port
    base_path: str  # the serving volume as the server sees it


def path(places: Places) -> Path:
    return places.serving / FILE


def find_address(places: Places) -> ServerAddress | None:
    """The model server's address, or None where none is known. Raises ContractError for half a configuration."""
    rest, grpc = variables.SERVING_REST.read(), variables.SERVING_GRPC.read()
    if rest and grpc:
        return ServerAddress(rest=rest, grpc=grpc, base_path=base_path(places))
    if rest or grpc:
        raise ContractError(
            f"NIGHTLY_SERVING_REST is {rest!r} and NIGHTLY_SERVING_GRPC {grpc!r}: give both as host:port, or none"
        )
    return _recorded(places)


def base_path(places: Places) -> str:
    """The serving volume as the server sees it."""
    recorded = _recorded(places)
    return variables.SERVING_BASE_PATH.read() or (recorded.base_path if recorded else str(places.serving))


def record(places: Places, address: ServerAddress) -> None:
    """Let commands in other shells know the server."""
    if _recorded(places) != address:
        address.save(path(places))


def forget(places: Places, address: ServerAddress) -> None:
    """Remove the record of a server that has ended, unless another has been recorded since."""
    if _recorded(places) == address:
        path(places).unlink(missing_ok=True)


def _recorded(places: Places) -> ServerAddress | None:
    try:
        return ServerAddress.load(path(places))
    except FileNotFoundError:
        return None
