"""What a release needs of a model server. The standard library only: any step can use it."""

import logging
from typing import Protocol, TypeGuard

from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import ServerNotReached
from nightly.release.versions import Versions

LOG = logging.getLogger(__name__)


class ServerConfiguration(Protocol):
    """One model in a model server's configuration file; nightly.serving.server has the real ones."""

    address: str  # "": no server is known, and only the file is written

    def check(self) -> None:
        """Raises ServerNotReached."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Make `version` what stable clients get; None: the model has none. `loadable` is what the folder has.

        `canary` is what the callers of that label get; None: the label goes. Raises ServerNotReached, after which
        what the server has is not known, and ReleaseNotVerified.
        """

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """The same in the configuration file alone, which the server reads at its next start."""


class ModelServer(ServerConfiguration, Protocol):
    """The same, with the server that reads the file."""

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Raises ReleaseNotVerified for a version that was refused, and what else keeps the server from answering."""


def answers(server: ServerConfiguration | None) -> TypeGuard[ModelServer]:
    return server is not None and bool(server.address)


def serve(
    disk: Versions, version: int | None, server: ServerConfiguration | None, canary: int | None = None
) -> ServerNotReached | None:
    """Tell the server what to serve, if there is one. Return the error when it cannot be reached.

    What it could not be told is in its configuration file all the same.
    """
    if server is None:
        return None
    try:
        server.serve(version, disk.loadable(), canary)
    except ServerNotReached as error:
        LOG.error("%s", error)
        server.write(version, disk.loadable(), canary)
        return error
    return None


def canary_but(disk: Versions, version: int | None) -> int | None:
    """Return the canary that is to be served on when `version` is not; None where there is none."""
    canary = disk.canary()
    return canary.version if canary and canary.version != version else None
