"""The versions in the serving volume, and the record of each. The standard library only: any step can use it.

TensorFlow Serving polls `<serving>/<model>/` and loads every child whose name parses as an integer, half-copied or
not (ParseVersionNumber in its file_system_storage_path_source.cc). So a version is written under a name that does
not parse, and gets its number in one rename, when it is whole and on disk:

    .staging-<version>      being written
    <version>               in production, or older
    quarantined-<version>   taken back; kept to be looked at
    removed-<version>       being deleted

A base path that exists without any version makes the server unload what it serves; one that does not exist leaves it
alone. So the model's folder itself appears in one rename too, with its first version inside.

A process may die at any point. The record is written ahead of the rename (state `releasing`) and completed after it;
whoever takes the lock next completes what was renamed, and clears away what was not.

With a model server, what was renamed is first `verifying`: not in production before the server has answered for it.
The lock is held meanwhile, so that whoever has it and finds a `verifying` version knows that its release died: a retry
of that run verifies it again, any other takes it back.

A version may be verified to be the `canary`: its callers get it, and the one in production stays what it is until the
canary is promoted or stopped. There is one at most, it is the newest version, and nothing else is released meanwhile.
"""

import datetime as dt
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from include.contracts.base import sync_folder
from include.contracts.release import ReleaseRecord, Verification

LOG = logging.getLogger(__name__)

UNIX_SECONDS = range(10**9, 10**10)  # 2001 to 2286; a 14-digit date would win against every one of them for ever
SPARE_BYTES = 64 * 2**20  # left free beside the copy: the record, and the server's own files
LIVE = ("verifying", "canary", "released")
PARSES_AS_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)


class ReleaseError(RuntimeError):
    """A release cannot be made or found; the message says what, where, and what to do."""


class WithdrawnError(ReleaseError):
    """The model of this run was released and taken back: a retry does not bring it back."""


class DamagedError(ReleaseError):
    """The files of a version are not those of its record."""


class SpaceError(ReleaseError):
    """The serving volume has no room for another version."""


class CanaryRunning(ReleaseError):
    """A canary is being compared with the version in production: until that ends, nothing else is released."""


class ReleaseNotVerified(ReleaseError):
    """The model server did not answer for a version as it should: it is quarantined, the one before stays."""


class ServerNotReached(ReleaseError):
    """The model server is configured and does not answer."""


class ModelServer(Protocol):
    """One model on a model server. include/serving/verify.py has the real one; the store needs no more of it."""

    address: str

    def check(self) -> None:
        """Raises ServerNotReached."""

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Raises ReleaseNotVerified."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Make `version` what stable clients get; None: the model has none. `loadable` is what the folder has.

        `canary` is what the callers of that label get; None: the label goes.
        """


class ReleaseStore:
    """One model's versions in the volume `serving`, and their records in `releases`."""

    def __init__(self, serving: Path, releases: Path, model: str) -> None:
        self.model = model
        self.serving = Path(serving)
        self.folder = self.serving / model
        self.releases = Path(releases) / model

    # What is there

    def production(self) -> int | None:
        """What stable clients get: the newest released version on disk. None before the first release."""
        return max(self.versions(), default=None)

    def canary(self) -> ReleaseRecord | None:
        """The version that is being compared with the one in production, if there is one."""
        found = [r for r in self.records() if r.state == "canary" and self._place(r.version).is_dir()]
        return found[-1] if found else None

    def waits_for(self, run_id: str) -> str:
        """The canary that a release of this run would have to wait for, as part of a sentence; "" if there is none."""
        canary = self.canary()
        if canary is None or canary.run_id == run_id:
            return ""
        return (
            f"canary {canary.version} is being compared with production since {canary.canary_since:%Y-%m-%d %H:%M} UTC "
            f"(bin/releases canary {self.model})"
        )

    def versions(self) -> list[int]:
        """Released versions on disk, oldest first. What has a number and no record is reported, and left out."""
        for name in self.unrecorded():
            LOG.warning(
                "%s is loaded by TensorFlow Serving and has no release record in %s; who put it there? Move it away, "
                "or the next release supersedes it",
                self.folder / name,
                self.releases,
            )
        return sorted(r.version for r in self.records() if r.state == "released" and self._place(r.version).is_dir())

    def unrecorded(self) -> list[str]:
        """Names in the model's folder that TensorFlow Serving takes for versions and no record knows."""
        known = {str(record.version) for record in self.records()}
        return sorted(name for name in self._names() if PARSES_AS_INTEGER.fullmatch(name) and name not in known)

    def records(self) -> list[ReleaseRecord]:
        """The record of every version that was ever given a number, oldest first."""
        paths = [path for path in self.releases.glob("*.json") if path.stem.isdecimal()]
        return sorted((ReleaseRecord.load(path) for path in paths), key=lambda record: record.version)

    def record(self, version: int) -> ReleaseRecord:
        """The record of `version`. Raises ReleaseError, naming the versions there are."""
        try:
            return ReleaseRecord.load(self._record_path(version))
        except FileNotFoundError:
            there = ", ".join(str(record.version) for record in self.records()) or "none"
            raise ReleaseError(
                f"{self.model} has no version {version} in {self.releases}; there are: {there}"
            ) from None

    def find(self, version: int) -> Path:
        """The folder of `version`'s files, quarantined or not. Raises ReleaseError when they are gone."""
        for folder in (self._place(version), self._aside("quarantined", version)):
            if folder.is_dir():
                return folder
        record = self.record(version)
        raise ReleaseError(f"the files of {self.model} {version} are gone: it is {record.state} ({record.why})")

    def verify(self, version: int) -> ReleaseRecord:
        """Hash every file of `version` on disk. Raises DamagedError, naming what differs from the record."""
        record = self.record(version)
        found = hash_files(self._place(version)) if self._place(version).is_dir() else {}
        wrong = [f"{name} is missing" for name in record.files.keys() - found.keys()]
        wrong += [f"{name} is not of this release" for name in found.keys() - record.files.keys()]
        wrong += [f"{name} differs" for name in record.files.keys() & found.keys() if record.files[name] != found[name]]
        if wrong:
            raise DamagedError(
                f"{self._place(version)} ({record.state}) is not what was released: {'; '.join(sorted(wrong))}. "
                "Release the model again in a new run, and quarantine this version if it is served."
            )
        return record

    # What changes it

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
        now: float | None = None,
    ) -> ReleaseRecord:
        """Make the SavedModel in `source` the newest version, and say so in a record.

        A retry with the model that this run released already gives the same record, and no second version. With a
        `server` the version is in production once that has verified it, and quarantined if it does not; a server that
        does not answer is found out before anything is released. With a `canary_share` of the callers, it becomes the
        canary of the version in production, if there is one. `now` is in Unix seconds; a clock that went backwards
        still gives a greater version. Raises ReleaseError, and CanaryRunning while another run's version is the canary.
        """
        source = Path(source)
        if not (source / "saved_model.pb").is_file():
            raise ReleaseError(f"{source} is not an exported SavedModel: it has no saved_model.pb")
        files = hash_files(source)
        with self._lock():
            if server is not None:
                server.check()
            self._recover()
            mine = next((r for r in self.records() if r.run_id == run_id and r.files == files), None)
            for record in self.records():
                if record.state == "verifying" and record != mine:
                    self._take_back(record, "its release died before the model server had verified it", server)
            if mine is not None:
                return self._into_production(self._released_before(mine), server)
            if waits_for := self.waits_for(run_id):
                raise CanaryRunning(f"{self.model} is not released: {waits_for}")
            production = self.production()
            if canary_share is not None and production is not None and server is None:
                raise ReleaseError(
                    f"{self.model} has [release.canary] and no model server is configured: without labels, every "
                    "caller would get the canary. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, or take the "
                    "section out."
                )
            self._check_volume()
            self._check_space(source, files)
            record = ReleaseRecord(
                model=self.model,
                version=(version := self._next_version(time.time() if now is None else now)),
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
                canary_share=canary_share if production is not None else None,
            )
            return self._into_production(self._publish(source, record), server)

    def note(self, version: int, details: dict[str, Any]) -> ReleaseRecord:
        """Add to the details in the record of `version`."""
        with self._lock():
            record = self.record(version)
            return self._save(record, details={**record.details, **details})

    def quarantine(self, version: int, why: str) -> ReleaseRecord:
        """Take `version` out of the server's sight, whatever it is; its files stay beside, to be looked at."""
        with self._lock():
            return self._withdraw(self.record(version), why)

    def promote(self, version: int, *, server: ModelServer) -> ReleaseRecord:
        """Put the canary `version` into production: the label `stable` moves to it, `canary` goes.

        Again, it completes what was begun. Raises ReleaseError, with the record as it was.
        """
        with self._lock():
            self._recover()
            record = self.record(version)
            if record.state == "released" and version == self.production():
                return record
            if record.state != "canary":
                raise ReleaseError(
                    f"{self.model} {version} is {record.state} ({record.why or 'no canary'}): it is not promoted"
                )
            self.verify(version)
            server.serve(version, self._loadable())
            record = self._save(record, state="released", released_at=dt.datetime.now(dt.UTC))
            LOG.info("%s %s was the canary, and is in production", self.model, version)
            return record

    def stop(self, version: int, why: str, *, server: ModelServer | None) -> ReleaseRecord:
        """Quarantine the canary `version`; its callers get the version in production before it goes away.

        Again, it completes what was begun. If the server cannot be reached, it is done on disk all the same, and
        ServerNotReached is raised at the end. Raises ReleaseError for a version that is no canary.
        """
        with self._lock():
            record = self.record(version)  # as it was: of a stop that died, recovery does not know why it began
            self._recover()
            if record.state not in ("canary", "quarantined"):
                raise ReleaseError(f"{self.model} {version} is {record.state}, and no canary: it is not stopped")
            not_reached = self._serve(self.production(), server)
            record = self._withdraw(record, why)
            if not_reached:
                raise ServerNotReached(
                    f"the canary {self.model} {version} is quarantined on disk, and the server has not confirmed it: "
                    f"{not_reached}"
                )
            return record

    def roll_back(self, to: int, why: str, *, server: ModelServer | None = None) -> list[int]:
        """Make `to` the version in production by quarantining all newer ones; gives those, newest first.

        The server's stable clients get `to` before anything newer goes away. If the server cannot be reached, it is
        done on disk all the same, which the server reads when it is back, and ServerNotReached is raised at the end.
        Raises ReleaseError, with nothing changed, for a version that is not there, damaged, or refused by the server.
        """
        with self._lock():
            self._recover()
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
                raise ServerNotReached(
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
        with self._lock():
            self._recover()
            kept = self.versions()[-max(keep, 2) :]
            old = [r for r in self.records() if kept and r.version < kept[0] and r.state in ("released", "quarantined")]
            for record in old:
                quarantined = record.state == "quarantined"
                why = f"quarantined: {record.why}" if quarantined else f"older than the {len(kept)} versions kept"
                place = self._aside("quarantined", record.version) if quarantined else self._place(record.version)
                if place.exists():
                    self._rename(place, self._aside("removed", record.version))
                self._save(record, state="removed", why=why)
                shutil.rmtree(self._aside("removed", record.version), ignore_errors=True)
            return [record.version for record in old]

    # How

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time for this model. The lock ends with the process that holds it, however it ends."""
        self.releases.mkdir(parents=True, exist_ok=True)
        with open(self.releases / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                LOG.info("waiting for another release of %s to end (%s)", self.model, file.name)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _recover(self) -> None:
        """Bring folder and records together again after a process that died between the two."""
        for leftover in [self._first_staging(), *self.folder.glob(".staging-*"), *self.releases.glob(".*.json.*")]:
            if leftover.is_dir():
                LOG.warning("clearing away %s, left by a release that did not end", leftover)
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
        for record in self.records():
            renamed = self._place(record.version).exists()
            if record.state == "releasing" and renamed:
                LOG.warning("completing %s, whose release died after the rename", self._place(record.version))
                try:
                    self._complete(record)
                except DamagedError as error:
                    LOG.error("%s", error)
            elif record.state == "releasing":
                self._record_path(record.version).unlink()
            elif record.state in LIVE and not renamed and self._aside("quarantined", record.version).exists():
                self._save(record, state="quarantined", why="the process that quarantined it died before it said why")
            elif record.state == "released" and not renamed and self._aside("removed", record.version).exists():
                self._save(record, state="removed", why="older than the versions kept")
        for leftover in self.folder.glob("removed-*"):
            shutil.rmtree(leftover)

    def _into_production(self, record: ReleaseRecord, server: ModelServer | None) -> ReleaseRecord:
        """What is `verifying` becomes released, or the canary, or quarantined."""
        if record.state != "verifying":
            return record
        to_canary = record.canary_share is not None
        if server is None and to_canary:
            raise ReleaseError(f"{record.path} is to be the canary, and no model server is configured any more")
        if server is None:
            LOG.warning("no model server is configured any more: of %s only the files are verified", record.path)
            return self._save(record, state="released", server="", released_at=dt.datetime.now(dt.UTC))
        try:
            self.verify(record.version)
            verification = server.verify(record, self.production())
            if to_canary:
                server.serve(self.production(), self._loadable(), record.version)
            else:
                server.serve(record.version, self._loadable())
        except Exception as error:
            self._take_back(record, str(error), server)
            raise
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

    def _take_back(self, record: ReleaseRecord, why: str, server: ModelServer | None) -> None:
        """Quarantine a version that never was in production; first its clients go back to the one that is."""
        try:
            self._serve(self.production(), server)
        except Exception as error:  # whatever the server says: the version must go
            LOG.error("the labels of %s could not be restored: %s", self.model, error)
        self._withdraw(record, why)

    def _serve(self, version: int | None, server: ModelServer | None) -> ServerNotReached | None:
        """Tell the server, if there is one; what it could not be told is in its configuration file all the same."""
        try:
            if server is not None:
                server.serve(version, self._loadable())
        except ServerNotReached as error:
            LOG.error("%s", error)
            return error
        return None

    def _loadable(self) -> list[int]:
        """The versions that the server finds in the model's folder, whatever their records say."""
        return sorted(int(name) for name in self._names() if re.fullmatch(r"\d+", name, re.ASCII))

    def _released_before(self, record: ReleaseRecord) -> ReleaseRecord:
        if record.state not in LIVE:
            raise WithdrawnError(
                f"run {record.run_id} released this very model as {self.model} {record.version}, which was then "
                f"{record.state} ({record.why}); it is not released again. Train anew, or release it in a new run."
            )
        if record.state == "verifying":
            LOG.warning("verifying %s again: the release that began to do so died", record.path)
            return record
        self.verify(record.version)
        LOG.info("%s %s was released by this run already (%s)", self.model, record.version, record.state)
        return record

    def _check_volume(self) -> None:
        """A serving volume that is not mounted looks like an empty folder: nothing may be released into that."""
        lost = [record.version for record in self.records() if record.state == "released"]
        if lost and not self.versions():
            raise ReleaseError(
                f"{self.releases} says that {self.model} {lost[-1]} is in production, and {self.folder} has no version "
                "of it. Is the serving volume mounted? If its versions were deleted on purpose, delete their records."
            )

    def _check_space(self, source: Path, files: dict[str, str]) -> None:
        needed = sum((source / name).stat().st_size for name in files) + SPARE_BYTES
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            raise SpaceError(
                f"{there} has {free / 2**20:.0f} MB free, and a release of {source} needs {needed / 2**20:.0f} MB. "
                "Make room, or keep fewer versions (release.keep in the model's config.toml)."
            )

    def _next_version(self, now: float) -> int:
        """Unix seconds, and greater than any number that was ever given, so that a client never sees it change."""
        names = [name.removeprefix("quarantined-") for name in self._names()]
        names = [name for name in names if PARSES_AS_INTEGER.fullmatch(name)]
        odd = sorted(name for name in names if not re.fullmatch(r"[1-9]\d{9}", name, re.ASCII))
        if odd:
            raise ReleaseError(
                f"{self.folder} holds {', '.join(map(repr, odd))}: TensorFlow Serving reads that as a version number, "
                "and it is not Unix seconds (10 digits), so that it cannot be ordered with releases. Move it away."
            )
        version = max([int(now), *(int(name) + 1 for name in names), *(r.version + 1 for r in self.records())])
        if version not in UNIX_SECONDS:
            raise ReleaseError(f"the next version of {self.model} would be {version}: is this machine's clock right?")
        return version

    def _publish(self, source: Path, record: ReleaseRecord) -> ReleaseRecord:
        final = self._place(record.version)
        if self.folder.exists():
            staging, renamed, to = (staged := self.folder / f".staging-{record.version}"), staged, final
        else:
            staging, renamed, to = self._first_staging() / final.name, self._first_staging(), self.folder
        LOG.info("releasing %s %s: %s files from %s", self.model, record.version, len(record.files), source)
        try:
            copy_files(source, staging, renamed)
            if hash_files(staging) != record.files:
                raise DamagedError(f"the copy in {staging} differs from {source}: was it changed meanwhile? Retry.")
            record.save(self._record_path(record.version))
        except OSError as error:
            self._abandon(renamed, record)
            raise ReleaseError(f"{source} could not be copied to {staging}, nothing was released: {error}") from error
        except BaseException:
            self._abandon(renamed, record)
            raise
        self._rename(renamed, to)
        return self._complete(record)

    def _abandon(self, staging: Path, record: ReleaseRecord) -> None:
        shutil.rmtree(staging, ignore_errors=True)
        self._record_path(record.version).unlink(missing_ok=True)

    def _complete(self, record: ReleaseRecord) -> ReleaseRecord:
        """What has its number is read once more under it, and then recorded as released."""
        try:
            self.verify(record.version)
        except DamagedError as error:
            self._withdraw(record, str(error))
            raise
        state = "verifying" if record.server else "released"
        record = self._save(record, state=state, released_at=dt.datetime.now(dt.UTC))
        LOG.info("%s %s %s in %s", state, self.model, record.version, record.path)
        return record

    def _withdraw(self, record: ReleaseRecord, why: str) -> ReleaseRecord:
        # The folder first: a bad version must be gone even if this process dies before it can say why.
        if self._place(record.version).exists():
            self._rename(self._place(record.version), self._aside("quarantined", record.version))
        elif record.state in ("quarantined", "removed"):
            return record
        LOG.warning("quarantined %s %s: %s", self.model, record.version, why)
        return self._save(record, state="quarantined", why=why)

    def _rename(self, old: Path, new: Path) -> None:
        old.rename(new)
        sync_folder(new.parent)

    def _save(self, record: ReleaseRecord, **changes: Any) -> ReleaseRecord:
        record = record.model_copy(update=changes)
        record.save(self._record_path(record.version))
        return record

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.exists() else []

    def _place(self, version: int) -> Path:
        return self.folder / str(version)

    def _aside(self, state: str, version: int) -> Path:
        return self.folder / f"{state}-{version}"

    def _first_staging(self) -> Path:
        return self.serving / f".staging-{self.model}"

    def _record_path(self, version: int) -> Path:
        return self.releases / f"{version}.json"


def hash_files(folder: Path) -> dict[str, str]:
    """Path inside `folder` -> sha256, of every file in it. Raises ReleaseError for what is not a plain file."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReleaseError(f"{path} is not a plain file: a version must hold its files itself")
        if path.is_file():
            with open(path, "rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def copy_files(source: Path, target: Path, top: Path) -> None:
    """Copy a folder so that it survives a power cut: all files and folders synced, up to `top`.

    Everyone may read the copy, whatever the umask: the server runs as another user.
    """
    target.mkdir(parents=True)
    folders = [top, target] if top != target else [target]
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
            folders.append(copy)
            continue
        with open(path, "rb") as read, open(copy, "xb") as written:
            shutil.copyfileobj(read, written, 2**20)
            written.flush()
            os.fchmod(written.fileno(), 0o644)
            os.fsync(written.fileno())
    for folder in reversed(folders):
        folder.chmod(0o755)
        sync_folder(folder)
