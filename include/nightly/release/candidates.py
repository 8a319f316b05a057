"""Versions that are not in production before the model server has answered for them.

With a model server, what was renamed is first `verifying`. The lock is held meanwhile, so that whoever has it and finds
a `verifying` version knows that its release died: a retry of that run verifies it again, any other takes it out of
sight.

A version that the server refused is `quarantined` for good. One that could not be verified, since the server went away
or the release died, is `unverified`: the same files get their number back when they are released again, by a retry or
by a later night of the same data.
"""

import datetime as dt
import logging

from nightly.records.release import ReleaseRecord
from nightly.release.errors import NotVerifiedYet, ReleaseError, ReleaseNotVerified
from nightly.release.servers import ServerConfiguration, answers, canary_but, serve
from nightly.release.transitions import Transitions

LOG = logging.getLogger(__name__)


class Candidates:
    """The versions of one model on their way into production by `server`. The lock is held."""

    def __init__(self, transitions: Transitions, server: ServerConfiguration | None) -> None:
        self.disk = transitions.disk
        self.transitions = transitions
        self.server = server

    def into_production(self, record: ReleaseRecord) -> ReleaseRecord:
        """What is `verifying` becomes released, or the canary; or quarantined, or unverified."""
        to_canary = record.canary_share is not None
        if record.state == "verifying" and not answers(self.server):
            if to_canary:
                raise ReleaseError(f"{record.path} is to be the canary, and no model server is configured any more")
            LOG.warning("no model server is configured any more: of %s only the files are verified", record.path)
            record = self.transitions.save(record, state="released", server="", released_at=dt.datetime.now(dt.UTC))
        if record.state != "verifying":
            if not answers(self.server) and record.version == self.disk.production():
                serve(self.disk, record.version, self.server)
            return record
        server = self.server
        assert answers(server)  # or the record would not be `verifying`
        try:
            self.disk.verify(record.version)
            verification = server.verify(record, self.disk.production())
        except ReleaseNotVerified as error:
            self._take_back(record, str(error))
            raise
        except Exception as error:
            raise self._not_verified_yet(record, error) from error
        try:
            if to_canary:
                server.serve(self.disk.production(), self.disk.loadable(), record.version)
            else:
                server.serve(record.version, self.disk.loadable())
        except Exception as error:  # it has answered well: what fails now is no fault of the version
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
        what = "the canary" if to_canary else "in production"
        LOG.info("%s %s is %s, verified by the server at %s", record.model, record.version, what, server.address)
        return record

    def withdraw_dead(self, but: ReleaseRecord | None = None) -> list[ReleaseRecord]:
        """Take versions out of sight whose release died while the server was asked; return their records."""
        dead = [record for record in self.disk.records() if record.state == "verifying" and record != but]
        for record in dead:
            self._take_back(record, "its release died before the model server had verified it", "unverified")
        return dead

    def _not_verified_yet(self, record: ReleaseRecord, error: Exception) -> NotVerifiedYet:
        """Take a version out of sight that the server could not be asked about; return the error that says so."""
        self._take_back(record, str(error), "unverified")
        return NotVerifiedYet(
            f"{record.model} {record.version} could not be verified, and is out of sight in "
            f"{self.disk.aside('unverified', record.version)}: {error}. A retry verifies and releases it as it is, and "
            "so does a later night with the same data."
        )

    def _take_back(self, record: ReleaseRecord, why: str, state: str = "quarantined") -> None:
        """Withdraw a version that never was in production; first its clients go back to the one that is."""
        try:
            serve(self.disk, self.disk.production(), self.server, canary_but(self.disk, record.version))
        except Exception as error:  # whatever the server says: the version must go
            LOG.error("the labels of %s could not be restored: %s", record.model, error)
        self.transitions.withdraw(record, why, state)
