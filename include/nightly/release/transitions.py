"""Move a version from one state to the next, on disk and in its record.

A process may die at any point. The record is written before the rename (state `releasing`) and completed after it.
The next process that takes the lock completes a version that was renamed, and removes one that was not.
"""

import datetime as dt
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nightly.io import space
from nightly.io.atomic import sync_path
from nightly.io.files import copy_file, copy_files, hash_file
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError, SpaceError
from nightly.release.versions import ASIDE, LIVE, PARSES_AS_INTEGER, Versions, hash_version
from nightly.state import current

LOG = logging.getLogger(__name__)

UNIX_SECONDS = range(10**9, 10**10)  # 2001 to 2286; a 14-digit date would stay the newest version for ever


class Transitions:
    """The single changes behind ReleaseStore's operations. The caller holds the lock (Versions.locked)."""

    def __init__(self, disk: Versions) -> None:
        self.disk = disk
        self.model = disk.model

    def recover(self) -> None:
        """Make folder and records consistent after a process died between the two."""
        folder = self.disk.folder
        self._clear_staging()
        for record in self.disk.records():
            renamed = self.disk.path(record.version).exists()
            if record.state == "releasing" and renamed:
                LOG.warning("completing %s, whose release died after the rename", self.disk.path(record.version))
                try:
                    self._complete(record)
                except DamagedError as error:
                    LOG.error("%s", error)
            elif record.state == "releasing" and self.disk.aside("unverified", record.version).exists():
                self.save(record, state="unverified", why="the release that was to verify it died")
            elif record.state == "releasing":
                self.disk.record_path(record.version).unlink()
            elif record.state in (*LIVE, "unverified") and not renamed and (state := self._moved_aside(record)):
                self.save(record, state=state, why="the process that took it out of sight died before it said why")
            elif record.state == "released" and not renamed and self.disk.aside("removed", record.version).exists():
                self.save(record, state="removed", why="older than the versions kept")
        unverified = {self.disk.aside(r.state, r.version) for r in self.disk.records() if r.state == "unverified"}
        for leftover in [*folder.glob("removed-*"), *set(folder.glob("unverified-*")) - unverified]:
            shutil.rmtree(leftover)

    def _clear_staging(self) -> None:
        folder, records = self.disk.folder, self.disk.releases
        for leftover in [self._first_staging(), *folder.glob(".staging-*"), *records.glob(".*.json.*")]:
            if leftover.is_dir():
                LOG.warning("clearing away %s, left by a release that did not end", leftover)
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    def _moved_aside(self, record: ReleaseRecord) -> str | None:
        """Return the state in the folder's name, or None if the record has that state."""
        states = [state for state in ASIDE if self.disk.aside(state, record.version).exists()]
        return states[0] if states and record.state not in states else None

    def check_volume(self) -> None:
        """Raise ReleaseError if the volume seems not to be mounted: it has none of the released versions."""
        lost = [record.version for record in self.disk.records() if record.state == "released"]
        if lost and not self.disk.released():
            raise ReleaseError(
                f"{self.disk.releases} says that {self.model} {lost[-1]} is in production, and {self.disk.folder} has "
                "no version of it. Is the serving volume mounted? If its versions were deleted on purpose, delete "
                "their records."
            )

    def check_space(self, source: Path, files: dict[str, str]) -> None:
        needed = sum((source / name).stat().st_size for name in files)
        space.check_space({self.disk.folder: needed}, f"a release of {source}", SpaceError)

    def next_version(self, now: float) -> int:
        """Return the next version: Unix seconds, and greater than any earlier version. No number is used twice."""
        names = [name.removeprefix("quarantined-").removeprefix("unverified-") for name in self.disk.names()]
        names = [name for name in names if PARSES_AS_INTEGER.fullmatch(name)]
        odd = sorted(name for name in names if not re.fullmatch(r"[1-9]\d{9}", name, re.ASCII))
        if odd:
            raise ReleaseError(
                f"{self.disk.folder} holds {', '.join(map(repr, odd))}: TensorFlow Serving reads that as a version "
                "number, but it is not Unix seconds (10 digits), as release numbers are. Move it away."
            )
        version = max([int(now), *(int(name) + 1 for name in names), *(r.version + 1 for r in self.disk.records())])
        if version not in UNIX_SECONDS:
            raise ReleaseError(f"the next version of {self.model} would be {version}: is this machine's clock right?")
        return version

    def publish(self, source: Path, record: ReleaseRecord) -> ReleaseRecord:
        final = self.disk.path(record.version)
        if self.disk.folder.exists():
            staging, renamed, to = (staged := self._staging(record.version)), staged, final
        else:
            staging, renamed, to = self._first_staging() / final.name, self._first_staging(), self.disk.folder
        LOG.info("releasing %s %s: %s files from %s", self.model, record.version, len(record.files), source)
        try:
            self._copy(source, staging, renamed, record)
            record.save(self.disk.record_path(record.version))
        except OSError as error:
            self._abandon(renamed, record)
            raise ReleaseError(f"{source} could not be copied to {staging}, nothing was released: {error}") from error
        except BaseException:
            self._abandon(renamed, record)
            raise
        self.rename(renamed, to)
        return self._complete(record)

    def _copy(self, source: Path, staging: Path, top: Path, record: ReleaseRecord) -> None:
        copy_files(source, staging, top)
        if hash_version(staging) != record.files:
            raise DamagedError(f"the copy in {staging} differs from {source}: was it changed meanwhile? Retry.")

    def _abandon(self, staging: Path, record: ReleaseRecord) -> None:
        shutil.rmtree(staging, ignore_errors=True)
        self.disk.record_path(record.version).unlink(missing_ok=True)

    def _complete(self, record: ReleaseRecord) -> ReleaseRecord:
        """Verify the renamed version's files, then record it as released, or as `verifying` if there is a server."""
        try:
            self.disk.verify(record.version)
        except DamagedError as error:
            self.withdraw(record, str(error), "unverified")  # the disk's fault: a retry copies the model again
            raise
        state = "verifying" if record.server else "released"
        record = self.save(record, state=state, released_at=dt.datetime.now(dt.UTC))
        LOG.info("%s %s %s in %s", state, self.model, record.version, record.path)
        return record

    def withdraw(self, record: ReleaseRecord, why: str, state: str = "quarantined") -> ReleaseRecord:
        # The folder goes first: a bad version must be gone even if this process dies before it writes the record.
        aside = self.disk.aside(state, record.version)
        paths = (self.disk.path(record.version), self.disk.aside("unverified", record.version))
        if folder := next((path for path in paths if path != aside and path.exists()), None):
            self.rename(folder, aside)
        elif record.state in ("quarantined", "removed"):
            return record
        LOG.warning("%s %s %s: %s", state, self.model, record.version, why)
        return self.save(record, state=state, why=why)

    def replace_files(self, record: ReleaseRecord, copies: Mapping[str, Path]) -> None:
        """Replace files of a version with `copies` (name -> path), and delete files that are not in its record.

        Each file is replaced in one rename, so a server that loads the version never reads half a file. A folder that
        is gone comes back whole, in one rename. Raises ReleaseError.
        """
        staging, folder = self._staging(record.version), self.disk.home(record)
        try:
            for name, copy in copies.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                copy_file(copy, staging / name)
                if hash_file(staging / name) != record.files[name]:
                    raise ReleaseError(f"the copy of {copy} in {staging} differs: was it changed meanwhile? Retry.")
            if folder.exists():
                self._replace(copies, staging, folder, record)
            else:
                self._restore(staging, folder, record)
        except OSError as error:
            raise ReleaseError(f"{folder} could not be repaired (no file is half written): {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        LOG.warning("repaired %s %s: %s", record.model, record.version, ", ".join(sorted(copies)) or "nothing lost")

    def _restore(self, staging: Path, folder: Path, record: ReleaseRecord) -> None:
        if hash_version(staging) != record.files:
            raise ReleaseError(f"{folder} disappeared while files of it were repaired. Retry.")
        for path in [*staging.rglob("*/"), staging]:
            path.chmod(0o755)  # the model server may run as another user
            sync_path(path)
        self.rename(staging, folder)

    def _replace(self, copies: Iterable[str], staging: Path, folder: Path, record: ReleaseRecord) -> None:
        for name in copies:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.rename(staging / name, folder / name)
        for name in self.disk.damage(record, folder).keys() - record.files.keys():
            (folder / name).unlink()

    def remove(self, record: ReleaseRecord, why: str) -> None:
        """Delete the files of a version that is too old to keep; its record stays."""
        disk, aside = self.disk, record.state in ASIDE
        folder = disk.aside(record.state, record.version) if aside else disk.path(record.version)
        removed = disk.aside("removed", record.version)
        if folder.exists():
            self.rename(folder, removed)
        why = f"{record.state}: {record.why}" if aside else why
        self.save(record, state="removed", removed_from=record.state, why=why)
        shutil.rmtree(removed, ignore_errors=True)

    def drop_unverified(self, record: ReleaseRecord) -> None:
        """Remove unverified versions with the same files as `record`."""
        for other in self.disk.records():
            if other.state == "unverified" and other.files == record.files:
                self.save(other, state="removed", why=f"the same files are version {record.version}")
            if other.files == record.files:
                shutil.rmtree(self.disk.aside("unverified", other.version), ignore_errors=True)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)
        sync_path(new.parent)

    def save(self, record: ReleaseRecord, **changes: Any) -> ReleaseRecord:
        current().check_locks()  # before the file changes, as the session's end writes each changed record, too
        record = record.model_copy(update=changes)
        path = self.disk.record_path(record.version)
        record.save(path)
        current().publish(path)
        return record

    def _first_staging(self) -> Path:
        return self.disk.serving / f".staging-{self.model}"

    def _staging(self, version: int) -> Path:
        return self.disk.folder / f".staging-{version}"
