"""The interface of a model server that a release uses. Needs only the standard library, so any step can import it."""

import logging
from typing import Protocol, TypeGuard

from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import ServerNotReached
from nightly.release.versions import Versions

LOG = logging.getLogger(__name__)


class ServerConfiguration(Protocol):
    """One model in a model server's configuration file. nightly.serving.server implements it."""

    address: str  # "" if no server is known; then only the file is written

    def check(self) -> None:
        """Raise ServerNotReached if the server does not answer."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Move the labels `stable` and `canary` to these versions; None removes the label.

        `loadable` are the versions in the model's folder. Raises ReleaseNotVerified, ServerRefused, and
        ServerNotReached, after which the server's state is unknown.
        """

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Like `serve`, but only in the configuration file, which the server reads at its next start."""


class VerifyingServer(ServerConfiguration, Protocol):
    """A configuration file whose server's address is known, so that the server can verify a version."""

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Verify a version. Raises ReleaseNotVerified if it is refused, other errors if the server cannot answer."""


def has_address(server: ServerConfiguration | None) -> TypeGuard[VerifyingServer]:
    return server is not None and bool(server.address)


def update_server(
    disk: Versions, version: int | None, server: ServerConfiguration | None, canary: int | None = None
) -> ServerNotReached | None:
    """Move the server's labels, if there is a server. Return the error if it cannot be reached.

    The configuration file is written in either case.
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


def canary_except(disk: Versions, version: int | None) -> int | None:
    """Return the canary's version, or None if there is none or it is `version`."""
    canary = disk.canary()
    return canary.version if canary and canary.version != version else None
