"""The releases of a model in the serving volume. It needs only the standard library, so any step can import it.

This module decides which operation is allowed when. The others do the work:

    versions.py      reads the versions and their records
    transitions.py   makes each change, safely even if the process dies at any line
    shared.py        does what these two do, where the state is in a bucket
    candidates.py    has the model server verify a new version
    servers.py       is the interface of a model server

A verified version may become the `canary`, which a share of the callers get, while the version in production stays
until the canary is promoted or stopped. A model has at most one canary, it is the newest version, and nothing else is
released meanwhile.
"""

import datetime as dt
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightly.io.files import differences
from nightly.records.release import Origin, ReleaseRecord
from nightly.release.candidates import Candidates
from nightly.release.errors import (
    CanaryRunning,
    DamagedError,
    NotConfirmed,
    ProductionChanged,
    ReleaseError,
    ServerNotReached,
    WithdrawnError,
)
from nightly.release.servers import ServerConfiguration, canary_except, has_address, update_server
from nightly.release.shared import versions_and_transitions
from nightly.release.versions import ASIDE, LIVE, hash_version

LOG = logging.getLogger(__name__)
ANY = -1  # any version, or none, may be in production


class ReleaseStore:
    """The operations on one model's versions in the volume `serving`, and on their records in `releases`."""

    def __init__(self, serving: Path, releases: Path, model: str) -> None:
        self.model = model
        self.disk, self.transitions = versions_and_transitions(serving, releases, model)

    def release(
        self,
        source: Path,
        origin: Origin,
        *,
        server: ServerConfiguration | None = None,
        canary_share: float | None = None,
        judged_against: int | None = ANY,
        validated: dict[str, str] | None = None,
        now: float | None = None,
    ) -> ReleaseRecord:
        """Release the SavedModel in `source` as the newest version, and return its record.

        A retry of the origin's run with the same model returns the same record and makes no second version.

        :param server: verifies the version, which is quarantined if it is refused. A server that does not answer fails
            the release before anything is copied
        :param canary_share: the share of callers who get the version as canary, if there is a version in production
        :param judged_against: the production version that the model was compared with; None if there was none
        :param validated: path -> SHA-256 of the files when they were validated
        :param now: Unix seconds. A clock that went backwards still gives a greater version
        :raises NotVerifiedYet: when the server could not verify the version
        :raises CanaryRunning: while another run's version is the canary
        :raises ProductionChanged: when the version in production is not `judged_against`
        :raises ReleaseError: otherwise

        The lock is held, so neither the canary nor production changes before the rename.
        """
        source = Path(source)
        files = _validated_files(source, validated)
        with self.disk.locked():
            self.transitions.recover()
            candidates = Candidates(self.transitions, server)
            same = [record for record in reversed(self.disk.records()) if record.files == files]
            mine = next((r for r in same if r.run_id == origin.run_id and r.state != "unverified"), None)
            candidates.withdraw_unfinished(but=mine)
            if server is not None:
                server.check()
            if mine is not None:
                return candidates.into_production(self._released_before(mine))
            self._check_allowed(origin.run_id, judged_against, canary_share, server)
            self.transitions.check_volume()
            self.transitions.check_space(source, files)
            production = self.disk.production()
            record = ReleaseRecord(
                model=self.model,
                version=(version := self._version_for(files, time.time() if now is None else now)),
                state="releasing",
                files=files,
                path=str(self.disk.path(version)),
                previous_version=production,
                released_at=dt.datetime.now(dt.UTC),
                server=server.address if server else "",
                canary_share=canary_share if production is not None else None,
                **dict(origin),
            )
            record = self.transitions.publish(source, record)
            self.transitions.drop_unverified(record)
            return candidates.into_production(record)

    def settle(self, server: ServerConfiguration | None) -> list[ReleaseRecord]:
        """Withdraw the versions that a dead release left unverified; return their records.

        Returns [] at once while another process has the lock: a running release settles them itself.
        """
        try:
            with self.disk.locked(wait=False):
                self.transitions.recover()
                return Candidates(self.transitions, server).withdraw_unfinished()
        except BlockingIOError:
            LOG.info("%s is being released or rolled back: nothing is settled", self.model)
            return []

    def note(self, version: int, details: dict[str, Any]) -> ReleaseRecord:
        """Add `details` to the record of `version`, and return it."""
        with self.disk.locked():
            record = self.disk.record(version)
            return self.transitions.save(record, details={**record.details, **details})

    def replace_files(self, record: ReleaseRecord, copies: Mapping[str, Path]) -> None:
        """Repair a version with intact copies (name -> path) of its damaged files. Raises ReleaseError."""
        with self.disk.locked():
            self.transitions.recover()
            self.transitions.replace_files(record, copies)

    def quarantine(self, version: int, why: str, *, server: ServerConfiguration | None = None) -> ReleaseRecord:
        """Move `version` out of the server's sight, whatever its state. Its files are kept for inspection.

        The label `stable` first moves to the newest version that remains. Raises NotConfirmed, as `roll_back` does.
        """
        with self.disk.locked():
            record = self.disk.record(version)
            remaining = max((other for other in self.disk.released() if other != version), default=None)
            not_reached = update_server(self.disk, remaining, server, canary_except(self.disk, version))
            record = self.transitions.withdraw(record, why)
            if not_reached:
                raise NotConfirmed(
                    f"{self.model} {version} is quarantined on disk, and the server has not confirmed it: {not_reached}"
                )
            return record

    def serve(self, *, server: ServerConfiguration) -> None:
        """Write the server's configuration from the records, and reload it in the server. Raises NotConfirmed."""
        with self.disk.locked():
            self.transitions.recover()
            if not_reached := update_server(self.disk, self.disk.production(), server, canary_except(self.disk, None)):
                raise NotConfirmed(f"models.config has {self.model} as the records say, but {not_reached}")

    def promote(self, version: int, *, server: ServerConfiguration) -> ReleaseRecord:
        """Put the canary `version` into production: the label `stable` moves to it, and `canary` is removed.

        A second call completes an interrupted one. Raises ReleaseError, also if no server answers, and leaves record
        and configuration unchanged.
        """
        with self.disk.locked():
            self.transitions.recover()
            record = self.disk.record(version)
            if record.state == "released" and version == self.disk.production():
                return record
            if record.state != "canary":
                raise ReleaseError(
                    f"{self.model} {version} is {record.state} ({record.why or 'no canary'}): it is not promoted"
                )
            self.disk.verify(version)
            try:
                server.serve(version, self.disk.loadable())
            except ServerNotReached:
                server.write(self.disk.production(), self.disk.loadable(), version)
                raise
            except ReleaseError:  # the server may have answered wrongly after the labels had moved
                update_server(self.disk, self.disk.production(), server, version)
                raise
            record = self.transitions.save(record, state="released", released_at=dt.datetime.now(dt.UTC))
            LOG.info("%s %s was the canary, and is in production", self.model, version)
            return record

    def stop(self, version: int, why: str, *, server: ServerConfiguration | None) -> ReleaseRecord:
        """Quarantine the canary `version`, after its callers were moved to the version in production.

        A second call completes an interrupted one. If the server cannot be reached, the change is made on disk and
        NotConfirmed is raised at the end. Raises ReleaseError if the version is not a canary.
        """
        with self.disk.locked():
            record = self.disk.record(version)  # before recovery, which does not know why a stop began
            self.transitions.recover()
            if record.state not in ("canary", "quarantined"):
                raise ReleaseError(f"{self.model} {version} is {record.state}, and no canary: it is not stopped")
            not_reached = update_server(self.disk, self.disk.production(), server)
            record = self.transitions.withdraw(record, why)
            if not_reached:
                raise NotConfirmed(
                    f"the canary {self.model} {version} is quarantined on disk, and the server has not confirmed it: "
                    f"{not_reached}"
                )
            return record

    def roll_back(
        self, to: int, why: str, *, server: ServerConfiguration | None = None, production: int = ANY
    ) -> list[int]:
        """Put `to` into production by quarantining all newer versions; return those, newest first.

        The label `stable` moves to `to` before anything newer is moved away. If the server cannot be reached, the
        change is made on disk, where the server reads it at its next start, and NotConfirmed is raised at the end.
        Raises ReleaseError, with nothing changed, if `to` is missing, damaged, or refused by the server, and
        ProductionChanged if neither `production` nor `to` is in production.
        """
        with self.disk.locked():
            self.transitions.recover()
            if production != ANY and self.disk.production() not in (production, to):
                actual = _version(self.disk.production())
                raise ProductionChanged(f"{self.model} is at {actual}, and not at {production}")
            record = self.disk.record(to)
            if record.state != "released":
                released = ", ".join(map(str, self.disk.released())) or "none"
                raise ReleaseError(
                    f"{self.model} {to} is {record.state} ({record.why or 'not in production'}): "
                    f"production cannot go back to it. It can go back to: {released}"
                )
            self.disk.verify(to)
            not_reached = update_server(self.disk, to, server)
            # The next night would restore a lost version, and so undo the rollback.
            live = [r for r in reversed(self.disk.records()) if self.disk.in_sight(r) or self.disk.lost(r)]
            newer = [r for r in live if r.version > to]
            for record in newer:
                self.transitions.withdraw(record, why)
            not_reached = not_reached or update_server(self.disk, to, server)
            if not_reached:
                raise NotConfirmed(
                    f"{self.model} is rolled back to {to} on disk, and the server has not confirmed it: {not_reached}"
                )
            return [record.version for record in newer]

    def retain(self, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions; return those removed, oldest first.

        The version in production and its predecessor always stay, so at least two are kept. A quarantined version is
        removed together with released versions of its age. Records stay.
        """
        if keep < 1:
            raise ValueError(f"cannot keep {keep} versions of {self.model}: give 1 or more")
        with self.disk.locked():
            self.transitions.recover()
            kept = self.disk.released()[-max(keep, 2) :]
            old = [r for r in self.disk.records() if kept and r.version < kept[0] and r.state in ("released", *ASIDE)]
            for record in old:
                self.transitions.remove(record, f"older than the {len(kept)} versions kept")
            return [record.version for record in old]

    def _check_allowed(
        self, run_id: str, judged_against: int | None, canary_share: float | None, server: ServerConfiguration | None
    ) -> None:
        """Raise the error of `release` if nothing may be released now."""
        if waits_for := self.disk.waits_for(run_id):
            raise CanaryRunning(f"{self.model} is not released: {waits_for}")
        production = self.disk.production()
        if judged_against not in (ANY, production):
            raise ProductionChanged(
                f"{self.model} is not released: it was compared with {_version(judged_against)}, and meanwhile "
                f"{_version(production)} is in production. Clear `plan` with what is downstream."
            )
        if canary_share is not None and production is not None and not has_address(server):
            raise ReleaseError(
                f"{self.model} has [release.canary] and no model server is configured: without labels, every "
                "caller would get the canary. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, or take the "
                "section out."
            )

    def _version_for(self, files: dict[str, str], now: float) -> int:
        """Return the version that these files had as `unverified` if it is the newest, else the next one."""
        newest = self.disk.records()[-1:]
        if newest and newest[0].state == "unverified" and newest[0].files == files:
            return newest[0].version
        return self.transitions.next_version(now)

    def _released_before(self, record: ReleaseRecord) -> ReleaseRecord:
        if record.state not in LIVE:
            raise WithdrawnError(
                f"run {record.run_id} released this very model as {self.model} {record.version}, which was then "
                f"{record.state} ({record.why}); it is not released again. A night with other data or code can release."
            )
        if record.state == "verifying":
            LOG.warning("verifying %s again: the release that began to do so died", record.path)
            return record
        self.disk.verify(record.version)
        LOG.info("%s %s was released by this run already (%s)", self.model, record.version, record.state)
        return record


def _validated_files(source: Path, validated: dict[str, str] | None) -> dict[str, str]:
    """Hash the files of the SavedModel in `source`. Raises ReleaseError if it is not one, or not as validated."""
    if not (source / "saved_model.pb").is_file():
        raise ReleaseError(f"{source} is not an exported SavedModel: it has no saved_model.pb")
    files = hash_version(source)
    if wrong := differences(validated, files) if validated is not None else {}:
        raise DamagedError(
            f"{source} is not what was validated: {'; '.join(wrong.values())}. Nothing is released. Clear "
            "`trainer` with what is downstream to train the model again."
        )
    return files


def _version(version: int | None) -> str:
    return f"version {version}" if version is not None else "nothing"
