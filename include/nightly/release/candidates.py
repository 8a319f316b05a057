"""New versions, which go into production only after the model server has verified them.

With a model server, a new version starts as `verifying`. The release holds the lock meanwhile. So a process that gets
the lock and sees a `verifying` version knows that its release died: a retry of that run verifies the version again, any
other run moves it out of the server's sight.

A version that the server refuses is `quarantined` for good. A version that could not be verified, because the server
went away or the release died, is `unverified`. The same files get the same version number when they are released again,
by a retry or by a later night with the same data.
"""

import datetime as dt
import logging

from nightly.records.release import ReleaseRecord
from nightly.release.errors import NotVerifiedYet, ReleaseError, ReleaseNotVerified
from nightly.release.servers import ServerConfiguration, canary_except, has_address, update_server
from nightly.release.transitions import Transitions
from nightly.state import current

LOG = logging.getLogger(__name__)


class Candidates:
    """The versions of one model that `server` verifies before they go into production. The caller holds the lock."""

    def __init__(self, transitions: Transitions, server: ServerConfiguration | None) -> None:
        self.disk = transitions.disk
        self.transitions = transitions
        self.server = server

    def into_production(self, record: ReleaseRecord) -> ReleaseRecord:
        """Verify a `verifying` version, and return its record as `released` or `canary`.

        Raises ReleaseNotVerified after the version was quarantined, and NotVerifiedYet after it became `unverified`.
        """
        to_canary = record.canary_share is not None
        if record.state == "verifying" and not has_address(self.server):
            if to_canary:
                raise ReleaseError(f"{record.path} is to be the canary, and no model server is configured any more")
            LOG.warning("no model server is configured any more: of %s only the files are verified", record.path)
            record = self.transitions.save(record, state="released", server="", released_at=dt.datetime.now(dt.UTC))
        if record.state != "verifying":
            if not has_address(self.server) and record.version == self.disk.production():
                update_server(self.disk, record.version, self.server)
            return record
        server = self.server
        assert has_address(server)  # or the record would not be `verifying`
        try:
            self.disk.verify(record.version)
            verification = server.verify(record, self.disk.production())
        except ReleaseNotVerified as error:
            self._withdraw(record, str(error))
            raise
        except Exception as error:
            raise self._not_verified_yet(record, error) from error
        try:
            if to_canary:
                server.serve(self.disk.production(), self.disk.loadable(), record.version)
            else:
                server.serve(record.version, self.disk.loadable())
        except Exception as error:  # the version is verified, so a failure now is not its fault
            raise self._not_verified_yet(record, error) from error
        now = dt.datetime.now(dt.UTC)
        record = self.transitions.save(
            record,
            state="canary" if to_canary else "released",
            server=server.address,
            verification=verification,
            released_at=now,
            canary_since=now if to_canary else None,
        )
        role = "the canary" if to_canary else "in production"
        LOG.info("%s %s is %s, verified by the server at %s", record.model, record.version, role, server.address)
        return record

    def withdraw_unfinished(self, but: ReleaseRecord | None = None) -> list[ReleaseRecord]:
        """Withdraw versions whose release died while the server verified them; return their records."""
        unfinished = [record for record in self.disk.records() if record.state == "verifying" and record != but]
        for record in unfinished:
            self._withdraw(record, "its release died before the model server had verified it", "unverified")
        return unfinished

    def _not_verified_yet(self, record: ReleaseRecord, error: Exception) -> NotVerifiedYet:
        """Withdraw a version that the server could not verify; return the error to raise."""
        self._withdraw(record, str(error), "unverified")
        where = "" if current().shared else f" in {self.disk.aside('unverified', record.version)}"
        return NotVerifiedYet(
            f"{record.model} {record.version} could not be verified, and is out of sight{where}: {error}. A retry "
            "verifies and releases it as it is, and so does a later night with the same data."
        )

    def _withdraw(self, record: ReleaseRecord, why: str, state: str = "quarantined") -> None:
        """Withdraw a version that never was in production, after the labels have moved back from it."""
        try:
            update_server(self.disk, self.disk.production(), self.server, canary_except(self.disk, record.version))
        except Exception as error:  # the version must go, whatever the server answers
            LOG.error("the labels of %s could not be restored: %s", record.model, error)
        self.transitions.withdraw(record, why, state)
