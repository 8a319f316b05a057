"""The releases of a model in the serving volume. The standard library only: any step can use it.

versions.py says what is there, transitions.py makes each change so that a process may die at any line of it. Here is
what may be done when, and what the model server is told.

With a model server, what was renamed is first `verifying`: not in production before the server has answered for it.
The lock is held meanwhile, so that whoever has it and finds a `verifying` version knows that its release died: a retry
of that run verifies it again, any other takes it out of sight.

A version that the server refused is `quarantined` for good. One that could not be verified, since the server went away
or the release died, is `unverified`: the same files get their number back when they are released again, by a retry or
by a later night of the same data.

A version may be verified to be the `canary`: its callers get it, and the one in production stays what it is until the
canary is promoted or stopped. There is one at most, it is the newest version, and nothing else is released meanwhile.
"""

import datetime as dt
import logging
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

from nightly.io.files import differences
from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import (
    CanaryRunning,
    DamagedError,
    NotConfirmed,
    NotVerifiedYet,
    ProductionChanged,
    ReleaseError,
    ReleaseNotVerified,
    ServerNotReached,
    WithdrawnError,
)
from nightly.release.transitions import Transitions
from nightly.release.versions import ASIDE, LIVE, hash_version

LOG = logging.getLogger(__name__)


ANY = -1  # no version


class ModelServer(Protocol):
    """One model on a model server, and in its configuration file; nightly.serving.verify has the real ones."""

    address: str  # "": no server is known, and only the file is written

    def check(self) -> None:
        """Raises ServerNotReached."""

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Raises ReleaseNotVerified for a version that was refused, and what else keeps the server from answering."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Make `version` what stable clients get; None: the model has none. `loadable` is what the folder has.

        `canary` is what the callers of that label get; None: the label goes. Raises ServerNotReached, after which
        what the server has is not known, and ReleaseNotVerified.
        """

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """The same in the configuration file alone, which the server reads at its next start."""


class ReleaseStore(Transitions):
    """One model's versions in the volume `serving`, and their records in `releases`: look at them, and change them."""

    def release(
        self,
        source: Path,
        *,
        run_id: str,
        snapshot_id: str,
        code_version: str,
        requested_by: str,
        metrics: dict[str, float],
        server: ModelServer | None = None,
        canary_share: float | None = None,
        recipe: str = "",
        judged_against: int | None = ANY,
        validated: dict[str, str] | None = None,
        now: float | None = None,
    ) -> ReleaseRecord:
        """Make the SavedModel in `source` the newest version, and say so in a record.

        A retry with the model that this run released already gives the same record, and no second version. With a
        `server` the version is in production once that has verified it, and quarantined if it is refused; a server that
        does not answer is found out before anything is released. With a `canary_share` of the callers, it becomes the
        canary of the version in production, if there is one. `recipe` is nightly.tfx.recipe's. `validated` are the
        hashes that the files had when they were validated. `now` is in Unix seconds; a clock that went backwards
        still gives a greater version.

        Raises ReleaseError, NotVerifiedYet when the server could not answer for the version, CanaryRunning while
        another run's version is the canary, and ProductionChanged when the version in production is not
        `judged_against`, the one that the model was compared with (None: nothing was in
        production). The lock is held, so that neither changes before the rename.
        """
        source = Path(source)
        if not (source / "saved_model.pb").is_file():
            raise ReleaseError(f"{source} is not an exported SavedModel: it has no saved_model.pb")
        files = hash_version(source)
        if wrong := differences(validated, files) if validated is not None else {}:
            raise DamagedError(
                f"{source} is not what was validated: {'; '.join(wrong.values())}. Nothing is released. Clear "
                "`trainer` with what is downstream, and the model is made anew."
            )
        with self.locked():
            self._recover()
            same = [record for record in reversed(self.records()) if record.files == files]
            mine = next((r for r in same if r.run_id == run_id and r.state != "unverified"), None)
            self._withdraw_dead(server, but=mine)
            if server is not None:
                server.check()
            if mine is not None:
                return self._into_production(self._released_before(mine), server)
            if waits_for := self.waits_for(run_id):
                raise CanaryRunning(f"{self.model} is not released: {waits_for}")
            production = self.production()
            if judged_against not in (ANY, production):
                raise ProductionChanged(
                    f"{self.model} is not released: it was compared with {_version(judged_against)}, and meanwhile "
                    f"{_version(production)} is in production. Clear `plan` with what is downstream."
                )
            if canary_share is not None and production is not None and not _answers(server):
                raise ReleaseError(
                    f"{self.model} has [release.canary] and no model server is configured: without labels, every "
                    "caller would get the canary. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, or take the "
                    "section out."
                )
            self._check_volume()
            self._check_space(source, files)
            record = ReleaseRecord(
                model=self.model,
                version=(version := self._version_for(files, time.time() if now is None else now)),
                state="releasing",
                run_id=run_id,
                snapshot_id=snapshot_id,
                code_version=code_version,
                requested_by=requested_by,
                metrics=metrics,
                files=files,
                path=str(self._place(version)),
                previous_version=production,
                released_at=dt.datetime.now(dt.UTC),
                server=server.address if server else "",
                recipe=recipe,
                canary_share=canary_share if production is not None else None,
            )
            record = self._publish(source, record)
            self._drop_unverified(record)
            return self._into_production(record, server)

    def settle(self, server: ModelServer | None) -> list[ReleaseRecord]:
        """Take out of sight what a release that died has left there unverified; gives the records of that.

        Gives [] at once while another process has the lock: a release that goes on settles what others left.
        """
        try:
            with self.locked(wait=False):
                self._recover()
                return self._withdraw_dead(server)
        except BlockingIOError:
            LOG.info("%s is being released or rolled back: nothing is settled", self.model)
            return []

    def note(self, version: int, details: dict[str, Any]) -> ReleaseRecord:
        """Add to the details in the record of `version`."""
        with self.locked():
            record = self.record(version)
            return self._save(record, details={**record.details, **details})

    def quarantine(self, version: int, why: str, *, server: ModelServer | None = None) -> ReleaseRecord:
        """Take `version` out of the server's sight, whatever it is; its files stay beside, to be looked at.

        What is in production without it has the label `stable` before it goes. Raises NotConfirmed, as `roll_back`.
        """
        with self.locked():
            record = self.record(version)
            remaining = max((other for other in self.versions() if other != version), default=None)
            not_reached = self._serve(remaining, server, self._canary_but(version))
            record = self._withdraw(record, why)
            if not_reached:
                raise NotConfirmed(
                    f"{self.model} {version} is quarantined on disk, and the server has not confirmed it: {not_reached}"
                )
            return record

    def serve(self, *, server: ModelServer) -> None:
        """Write the server's configuration as the records say, and tell the server. Raises NotConfirmed."""
        with self.locked():
            self._recover()
            if not_reached := self._serve(self.production(), server, self._canary_but(None)):
                raise NotConfirmed(f"models.config has {self.model} as the records say, but {not_reached}")

    def promote(self, version: int, *, server: ModelServer) -> ReleaseRecord:
        """Put the canary `version` into production: the label `stable` moves to it, `canary` goes.

        Again, it completes what was begun. Raises ReleaseError, also where no server answers, with record and
        configuration as they were.
        """
        with self.locked():
            self._recover()
            record = self.record(version)
            if record.state == "released" and version == self.production():
                return record
            if record.state != "canary":
                raise ReleaseError(
                    f"{self.model} {version} is {record.state} ({record.why or 'no canary'}): it is not promoted"
                )
            self.verify(version)
            try:
                server.serve(version, self._loadable())
            except ServerNotReached:
                server.write(self.production(), self._loadable(), version)
                raise
            record = self._save(record, state="released", released_at=dt.datetime.now(dt.UTC))
            LOG.info("%s %s was the canary, and is in production", self.model, version)
            return record

    def stop(self, version: int, why: str, *, server: ModelServer | None) -> ReleaseRecord:
        """Quarantine the canary `version`; its callers get the version in production before it goes away.

        Again, it completes what was begun. If the server cannot be reached, it is done on disk all the same, and
        NotConfirmed is raised at the end. Raises ReleaseError for a version that is no canary.
        """
        with self.locked():
            record = self.record(version)  # as it was: of a stop that died, recovery does not know why it began
            self._recover()
            if record.state not in ("canary", "quarantined"):
                raise ReleaseError(f"{self.model} {version} is {record.state}, and no canary: it is not stopped")
            not_reached = self._serve(self.production(), server)
            record = self._withdraw(record, why)
            if not_reached:
                raise NotConfirmed(
                    f"the canary {self.model} {version} is quarantined on disk, and the server has not confirmed it: "
                    f"{not_reached}"
                )
            return record

    def roll_back(self, to: int, why: str, *, server: ModelServer | None = None, production: int = ANY) -> list[int]:
        """Make `to` the version in production by quarantining all newer ones; gives those, newest first.

        The server's stable clients get `to` before anything newer goes away. If the server cannot be reached, it is
        done on disk all the same, which the server reads when it is back, and NotConfirmed is raised at the end.
        Raises ReleaseError, with nothing changed, for a version that is not there, damaged, or refused by the server,
        and ProductionChanged when neither `production` nor `to` is in production.
        """
        with self.locked():
            self._recover()
            if production != ANY and self.production() not in (production, to):
                raise ProductionChanged(f"{self.model} is at {_version(self.production())}, and not at {production}")
            record = self.record(to)
            if record.state != "released":
                there = ", ".join(map(str, self.versions())) or "none"
                raise ReleaseError(
                    f"{self.model} {to} is {record.state} ({record.why or 'not in production'}): "
                    f"it cannot be gone back to. Those that can: {there}"
                )
            self.verify(to)
            not_reached = self._serve(to, server)
            newer = [r for r in reversed(self.records()) if r.version > to and self._place(r.version).exists()]
            for record in newer:
                self._withdraw(record, why)
            not_reached = not_reached or self._serve(to, server)
            if not_reached:
                raise NotConfirmed(
                    f"{self.model} is rolled back to {to} on disk, and the server has not confirmed it: {not_reached}"
                )
            return [record.version for record in newer]

    def retain(self, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions; gives those removed, oldest first.

        The one in production and its predecessor always stay, so fewer than two cannot be kept. Quarantined versions
        go with the released ones of their age. Records stay.
        """
        if keep < 1:
            raise ValueError(f"cannot keep {keep} versions of {self.model}: give 1 or more")
        with self.locked():
            self._recover()
            kept = self.versions()[-max(keep, 2) :]
            old = [r for r in self.records() if kept and r.version < kept[0] and r.state in ("released", *ASIDE)]
            for record in old:
                aside = record.state in ASIDE
                why = f"{record.state}: {record.why}" if aside else f"older than the {len(kept)} versions kept"
                place = self._aside(record.state, record.version) if aside else self._place(record.version)
                if place.exists():
                    self._rename(place, self._aside("removed", record.version))
                self._save(record, state="removed", why=why)
                shutil.rmtree(self._aside("removed", record.version), ignore_errors=True)
            return [record.version for record in old]

    def _into_production(self, record: ReleaseRecord, server: ModelServer | None) -> ReleaseRecord:
        """What is `verifying` becomes released, or the canary; or quarantined, or unverified."""
        to_canary = record.canary_share is not None
        if record.state == "verifying" and not _answers(server):
            if to_canary:
                raise ReleaseError(f"{record.path} is to be the canary, and no model server is configured any more")
            LOG.warning("no model server is configured any more: of %s only the files are verified", record.path)
            record = self._save(record, state="released", server="", released_at=dt.datetime.now(dt.UTC))
        if record.state != "verifying":
            if not _answers(server) and record.version == self.production():
                self._serve(record.version, server)
            return record
        try:
            self.verify(record.version)
            verification = server.verify(record, self.production())
        except ReleaseNotVerified as error:
            self._take_back(record, str(error), server)
            raise
        except Exception as error:
            raise self._not_verified_yet(record, error, server) from error
        try:
            if to_canary:
                server.serve(self.production(), self._loadable(), record.version)
            else:
                server.serve(record.version, self._loadable())
        except Exception as error:  # it has answered well: what fails now is no fault of the version
            raise self._not_verified_yet(record, error, server) from error
        now = dt.datetime.now(dt.UTC)
        record = self._save(
            record,
            state="canary" if to_canary else "released",
            server=server.address,
            verification=verification,
            released_at=now,
            canary_since=now if to_canary else None,
        )
        what = "the canary" if to_canary else "in production"
        LOG.info("%s %s is %s, verified by the server at %s", self.model, record.version, what, server.address)
        return record

    def _not_verified_yet(self, record: ReleaseRecord, error: Exception, server: ModelServer | None) -> NotVerifiedYet:
        """Take a version out of sight that the server could not be asked about; gives the error that says so."""
        self._take_back(record, str(error), server, "unverified")
        return NotVerifiedYet(
            f"{self.model} {record.version} could not be verified, and is out of sight in "
            f"{self._aside('unverified', record.version)}: {error}. A retry verifies and releases it as it is, and so "
            "does a later night with the same data."
        )

    def _take_back(
        self, record: ReleaseRecord, why: str, server: ModelServer | None, state: str = "quarantined"
    ) -> None:
        """Withdraw a version that never was in production; first its clients go back to the one that is."""
        try:
            self._serve(self.production(), server, self._canary_but(record.version))
        except Exception as error:  # whatever the server says: the version must go
            LOG.error("the labels of %s could not be restored: %s", self.model, error)
        self._withdraw(record, why, state)

    def _withdraw_dead(self, server: ModelServer | None, but: ReleaseRecord | None = None) -> list[ReleaseRecord]:
        """Take versions out of sight whose release died while the server was asked; gives their records."""
        dead = [record for record in self.records() if record.state == "verifying" and record != but]
        for record in dead:
            why = "its release died before the model server had verified it"
            self._take_back(record, why, server, "unverified")
        return dead

    def _version_for(self, files: dict[str, str], now: float) -> int:
        """The number that these files had before they were unverified, unless a newer one was given since."""
        newest = self.records()[-1:]
        if newest and newest[0].state == "unverified" and newest[0].files == files:
            return newest[0].version
        return self._next_version(now)

    def _drop_unverified(self, record: ReleaseRecord) -> None:
        """Remove earlier copies of what is `record` now."""
        for other in self.records():
            if other.state == "unverified" and other.files == record.files:
                self._save(other, state="removed", why=f"the same files are version {record.version}")
            if other.files == record.files:
                shutil.rmtree(self._aside("unverified", other.version), ignore_errors=True)

    def _serve(
        self, version: int | None, server: ModelServer | None, canary: int | None = None
    ) -> ServerNotReached | None:
        """Tell the server, if there is one; what it could not be told is in its configuration file all the same."""
        if server is None:
            return None
        try:
            server.serve(version, self._loadable(), canary)
        except ServerNotReached as error:
            LOG.error("%s", error)
            server.write(version, self._loadable(), canary)
            return error
        return None

    def _canary_but(self, version: int | None) -> int | None:
        canary = self.canary()
        return canary.version if canary and canary.version != version else None

    def _released_before(self, record: ReleaseRecord) -> ReleaseRecord:
        if record.state not in LIVE:
            raise WithdrawnError(
                f"run {record.run_id} released this very model as {self.model} {record.version}, which was then "
                f"{record.state} ({record.why}); it is not released again, but a night of other data or code is."
            )
        if record.state == "verifying":
            LOG.warning("verifying %s again: the release that began to do so died", record.path)
            return record
        self.verify(record.version)
        LOG.info("%s %s was released by this run already (%s)", self.model, record.version, record.state)
        return record


def _answers(server: ModelServer | None) -> bool:
    return server is not None and bool(server.address)


def _version(version: int | None) -> str:
    return f"version {version}" if version is not None else "nothing"
