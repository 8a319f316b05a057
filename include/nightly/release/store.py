"""The releases of a model in the serving volume. The standard library only: any step can use it.

versions.py says what is there, transitions.py makes each change so that a process may die at any line of it,
candidates.py has the model server answer for a new version, and servers.py is what a server is told. Here is what may
be done when.

A version may be verified to be the `canary`: its callers get it, and the one in production stays what it is until the
canary is promoted or stopped. There is one at most, it is the newest version, and nothing else is released meanwhile.
"""

import datetime as dt
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightly.io.files import differences
from nightly.records.release import ReleaseRecord
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
from nightly.release.servers import ServerConfiguration, answers, canary_but, serve
from nightly.release.transitions import Transitions
from nightly.release.versions import ASIDE, LIVE, Versions, hash_version

LOG = logging.getLogger(__name__)


ANY = -1  # no version


class ReleaseStore:
    """What may be done with one model's versions in the volume `serving`, and their records in `releases`."""

    def __init__(self, serving: Path, releases: Path, model: str) -> None:
        self.model = model
        self.disk = Versions(serving, releases, model)
        self.transitions = Transitions(self.disk)

    def release(
        self,
        source: Path,
        *,
        run_id: str,
        snapshot_id: str,
        code_version: str,
        requested_by: str,
        metrics: dict[str, float],
        server: ServerConfiguration | None = None,
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
        files = _validated_files(source, validated)
        with self.disk.locked():
            self.transitions.recover()
            candidates = Candidates(self.transitions, server)
            same = [record for record in reversed(self.disk.records()) if record.files == files]
            mine = next((r for r in same if r.run_id == run_id and r.state != "unverified"), None)
            candidates.withdraw_dead(but=mine)
            if server is not None:
                server.check()
            if mine is not None:
                return candidates.into_production(self._released_before(mine))
            self._check_allowed(run_id, judged_against, canary_share, server)
            self.transitions.check_volume()
            self.transitions.check_space(source, files)
            production = self.disk.production()
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
                path=str(self.disk.place(version)),
                previous_version=production,
                released_at=dt.datetime.now(dt.UTC),
                server=server.address if server else "",
                recipe=recipe,
                canary_share=canary_share if production is not None else None,
            )
            record = self.transitions.publish(source, record)
            self._drop_unverified(record)
            return candidates.into_production(record)

    def settle(self, server: ServerConfiguration | None) -> list[ReleaseRecord]:
        """Take out of sight what a release that died has left there unverified; gives the records of that.

        Gives [] at once while another process has the lock: a release that goes on settles what others left.
        """
        try:
            with self.disk.locked(wait=False):
                self.transitions.recover()
                return Candidates(self.transitions, server).withdraw_dead()
        except BlockingIOError:
            LOG.info("%s is being released or rolled back: nothing is settled", self.model)
            return []

    def note(self, version: int, details: dict[str, Any]) -> ReleaseRecord:
        """Add to the details in the record of `version`."""
        with self.disk.locked():
            record = self.disk.record(version)
            return self.transitions.save(record, details={**record.details, **details})

    def replace_files(self, record: ReleaseRecord, copies: Mapping[str, Path]) -> None:
        """Repair a version with whole copies of its damaged files. Raises ReleaseError."""
        with self.disk.locked():
            self.transitions.recover()
            self.transitions.replace_files(record, copies)

    def quarantine(self, version: int, why: str, *, server: ServerConfiguration | None = None) -> ReleaseRecord:
        """Take `version` out of the server's sight, whatever it is; its files stay beside, to be looked at.

        What is in production without it has the label `stable` before it goes. Raises NotConfirmed, as `roll_back`.
        """
        with self.disk.locked():
            record = self.disk.record(version)
            remaining = max((other for other in self.disk.released() if other != version), default=None)
            not_reached = serve(self.disk, remaining, server, canary_but(self.disk, version))
            record = self.transitions.withdraw(record, why)
            if not_reached:
                raise NotConfirmed(
                    f"{self.model} {version} is quarantined on disk, and the server has not confirmed it: {not_reached}"
                )
            return record

    def serve(self, *, server: ServerConfiguration) -> None:
        """Write the server's configuration as the records say, and tell the server. Raises NotConfirmed."""
        with self.disk.locked():
            self.transitions.recover()
            if not_reached := serve(self.disk, self.disk.production(), server, canary_but(self.disk, None)):
                raise NotConfirmed(f"models.config has {self.model} as the records say, but {not_reached}")

    def promote(self, version: int, *, server: ServerConfiguration) -> ReleaseRecord:
        """Put the canary `version` into production: the label `stable` moves to it, `canary` goes.

        Again, it completes what was begun. Raises ReleaseError, also where no server answers, with record and
        configuration as they were.
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
            record = self.transitions.save(record, state="released", released_at=dt.datetime.now(dt.UTC))
            LOG.info("%s %s was the canary, and is in production", self.model, version)
            return record

    def stop(self, version: int, why: str, *, server: ServerConfiguration | None) -> ReleaseRecord:
        """Quarantine the canary `version`; its callers get the version in production before it goes away.

        Again, it completes what was begun. If the server cannot be reached, it is done on disk all the same, and
        NotConfirmed is raised at the end. Raises ReleaseError for a version that is no canary.
        """
        with self.disk.locked():
            record = self.disk.record(version)  # as it was: of a stop that died, recovery does not know why it began
            self.transitions.recover()
            if record.state not in ("canary", "quarantined"):
                raise ReleaseError(f"{self.model} {version} is {record.state}, and no canary: it is not stopped")
            not_reached = serve(self.disk, self.disk.production(), server)
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
        """Make `to` the version in production by quarantining all newer ones; gives those, newest first.

        The server's stable clients get `to` before anything newer goes away. If the server cannot be reached, it is
        done on disk all the same, which the server reads when it is back, and NotConfirmed is raised at the end.
        Raises ReleaseError, with nothing changed, for a version that is not there, damaged, or refused by the server,
        and ProductionChanged when neither `production` nor `to` is in production.
        """
        with self.disk.locked():
            self.transitions.recover()
            if production != ANY and self.disk.production() not in (production, to):
                actual = _version(self.disk.production())
                raise ProductionChanged(f"{self.model} is at {actual}, and not at {production}")
            record = self.disk.record(to)
            if record.state != "released":
                there = ", ".join(map(str, self.disk.released())) or "none"
                raise ReleaseError(
                    f"{self.model} {to} is {record.state} ({record.why or 'not in production'}): "
                    f"it cannot be gone back to. Those that can: {there}"
                )
            self.disk.verify(to)
            not_reached = serve(self.disk, to, server)
            newer = [r for r in reversed(self.disk.records()) if r.version > to and self.disk.place(r.version).exists()]
            for record in newer:
                self.transitions.withdraw(record, why)
            not_reached = not_reached or serve(self.disk, to, server)
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
        """Raise what `release` raises where nothing may be released now."""
        if waits_for := self.disk.waits_for(run_id):
            raise CanaryRunning(f"{self.model} is not released: {waits_for}")
        production = self.disk.production()
        if judged_against not in (ANY, production):
            raise ProductionChanged(
                f"{self.model} is not released: it was compared with {_version(judged_against)}, and meanwhile "
                f"{_version(production)} is in production. Clear `plan` with what is downstream."
            )
        if canary_share is not None and production is not None and not answers(server):
            raise ReleaseError(
                f"{self.model} has [release.canary] and no model server is configured: without labels, every "
                "caller would get the canary. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, or take the "
                "section out."
            )

    def _version_for(self, files: dict[str, str], now: float) -> int:
        """The number that these files had before they were unverified, unless a newer one was given since."""
        newest = self.disk.records()[-1:]
        if newest and newest[0].state == "unverified" and newest[0].files == files:
            return newest[0].version
        return self.transitions.next_version(now)

    def _drop_unverified(self, record: ReleaseRecord) -> None:
        """Remove earlier copies of what is `record` now."""
        for other in self.disk.records():
            if other.state == "unverified" and other.files == record.files:
                self.transitions.save(other, state="removed", why=f"the same files are version {record.version}")
            if other.files == record.files:
                shutil.rmtree(self.disk.aside("unverified", other.version), ignore_errors=True)

    def _released_before(self, record: ReleaseRecord) -> ReleaseRecord:
        if record.state not in LIVE:
            raise WithdrawnError(
                f"run {record.run_id} released this very model as {self.model} {record.version}, which was then "
                f"{record.state} ({record.why}); it is not released again, but a night of other data or code is."
            )
        if record.state == "verifying":
            LOG.warning("verifying %s again: the release that began to do so died", record.path)
            return record
        self.disk.verify(record.version)
        LOG.info("%s %s was released by this run already (%s)", self.model, record.version, record.state)
        return record


def _validated_files(source: Path, validated: dict[str, str] | None) -> dict[str, str]:
    """Hash the files of the SavedModel in `source`. Raises ReleaseError where it is none, or not as validated."""
    if not (source / "saved_model.pb").is_file():
        raise ReleaseError(f"{source} is not an exported SavedModel: it has no saved_model.pb")
    files = hash_version(source)
    if wrong := differences(validated, files) if validated is not None else {}:
        raise DamagedError(
            f"{source} is not what was validated: {'; '.join(wrong.values())}. Nothing is released. Clear "
            "`trainer` with what is downstream, and the model is made anew."
        )
    return files


def _version(version: int | None) -> str:
    return f"version {version}" if version is not None else "nothing"
