"""Read the versions in the serving volume and their records.

TensorFlow Serving polls `<serving>/<model>/` and loads every child whose name parses as an integer, half-copied or
not (ParseVersionNumber in its file_system_storage_path_source.cc). So a version is written under a name that does
not parse, and gets its number in one rename, once it is complete and on disk:

    .staging-<version>      being written
    <version>               in production, or older
    unverified-<version>    out of sight until the model server can verify it
    quarantined-<version>   withdrawn; kept for inspection
    removed-<version>       being deleted

If the base path exists but holds no version, the server unloads the model; if the path does not exist, the server
changes nothing. So the model's folder itself appears in one rename too, with its first version inside.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightly.io.files import NotPlainFileError, differences, hash_files
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError
from nightly.state import current

LOG = logging.getLogger(__name__)

LIVE = ("verifying", "canary", "released")
ASIDE = ("quarantined", "unverified")  # the states whose files are kept out of the server's sight
PARSES_AS_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)


class Versions:
    """One model's versions in the volume `serving`, and their records in `releases`. Changes nothing."""

    def __init__(self, serving: Path, releases: Path, model: str) -> None:
        self.model = model
        self.serving = Path(serving)
        self.folder = self.serving / model
        self.releases = Path(releases) / model

    @contextmanager
    def locked(self, wait: bool = True) -> Iterator[None]:
        """Hold the lock under which this model's versions are changed, or read without changes meanwhile.

        The records are then as the last holder left them, on whichever host. Raises BlockingIOError if another process
        has the lock and `wait` is False, and StateNotReachedError at the end if it was lost meanwhile.
        """
        path = self.releases / ".lock"
        message = "waiting for another release of %s to end (%s)"
        with current().locked(path, wait=wait, on_wait=lambda: LOG.info(message, self.model, path)):
            current().refresh(self.releases)
            yield
            current().check_locks()

    def production(self) -> int | None:
        """Return the newest released version on disk, which has the label `stable`; None before the first release."""
        return max(self.released(), default=None)

    def canary(self) -> ReleaseRecord | None:
        """Return the record of the version that is being compared with production, or None."""
        canaries = [record for record in self.records() if record.state == "canary" and self.in_sight(record)]
        return canaries[-1] if canaries else None

    def waits_for(self, run_id: str) -> str:
        """Return which canary a release of this run has to wait for, as part of a sentence; "" if there is none."""
        canary = self.canary()
        if canary is None or canary.run_id == run_id:
            return ""
        return (
            f"canary {canary.version} is being compared with production since {canary.canary_since:%Y-%m-%d %H:%M} UTC "
            f"(bin/releases canary {self.model})"
        )

    def released(self) -> list[int]:
        """Return the released versions on disk, oldest first. Log a warning for a version without a record."""
        for name in self.unrecorded():
            LOG.warning(
                "%s is loaded by TensorFlow Serving and has no release record in %s; who put it there? Move it away, "
                "or the next release supersedes it",
                self.folder / name,
                self.releases,
            )
        return sorted(r.version for r in self.records() if r.state == "released" and self.in_sight(r))

    def in_sight(self, record: ReleaseRecord) -> bool:
        """Return whether the model server can load the version."""
        return self.path(record.version).is_dir()

    def lost(self, record: ReleaseRecord) -> bool:
        """Return whether a live version's folder is gone. If no version is there, the volume is not mounted."""
        gone = record.state in ("canary", "released") and not self.in_sight(record)
        moved = any(self.aside(state, record.version).exists() for state in (*ASIDE, "removed"))
        return gone and not moved and bool(self.released())

    def home(self, record: ReleaseRecord) -> Path:
        """Return the folder of a version's files or, if it is lost, where it belongs. Raises the error of `gone`."""
        return self.path(record.version) if self.lost(record) else self.find(record.version)

    def lost_production(self) -> int | None:
        """Return the newest released version if its folder is gone, so that `production` is an older one; else None."""
        newest = [record for record in self.records() if record.state == "released"][-1:]
        return newest[0].version if newest and self.lost(newest[0]) else None

    def unrecorded(self) -> list[str]:
        """Return the names that TensorFlow Serving loads as versions but that have no record."""
        known = {str(record.version) for record in self.records()}
        return sorted(name for name in self.names() if PARSES_AS_INTEGER.fullmatch(name) and name not in known)

    def undecided(self) -> bool:
        """Return whether a release is running, or died before its version was verified."""
        return any(record.state in ("releasing", "verifying") for record in self.records())

    def records(self) -> list[ReleaseRecord]:
        """Return the records of all versions, past and present, oldest first."""
        paths = [path for path in self.releases.glob("*.json") if path.stem.isdecimal()]
        return sorted((ReleaseRecord.load(path) for path in paths), key=lambda record: record.version)

    def record(self, version: int) -> ReleaseRecord:
        """Return the record of `version`. Raises ReleaseError, which lists the versions that exist."""
        try:
            return ReleaseRecord.load(self.record_path(version))
        except FileNotFoundError:
            existing = ", ".join(str(record.version) for record in self.records()) or "none"
            raise ReleaseError(
                f"{self.model} has no version {version} in {self.releases}; there are: {existing}"
            ) from None

    def find(self, version: int) -> Path:
        """Return the folder of `version`'s files, in the server's sight or not. Raises the error of `gone`."""
        for folder in (self.path(version), *(self.aside(state, version) for state in ASIDE)):
            if folder.is_dir():
                return folder
        raise self.gone(self.record(version))

    def gone(self, record: ReleaseRecord) -> ReleaseError:
        """Return the error that a version has no files: a DamagedError if it should have them."""
        kind = DamagedError if record.state in LIVE else ReleaseError
        return kind(f"the files of {self.model} {record.version} are gone: it is {record.state} ({record.why})")

    def verify(self, version: int) -> ReleaseRecord:
        """Hash every file of `version` on disk. Raises DamagedError, naming what differs from the record."""
        record = self.record(version)
        if damage := self.damage(record, self.path(version)):
            raise DamagedError(
                f"{self.path(version)} ({record.state}) is not what was released: {'; '.join(damage.values())}. "
                f"Repair it: bin/releases repair {self.model} {version}"
            )
        return record

    def damage(self, record: ReleaseRecord, folder: Path) -> dict[str, str]:
        """Return file -> problem, for each file in `folder` that differs from the record, is missing or is extra."""
        return differences(record.files, hash_version(folder) if folder.is_dir() else {})

    def loadable(self) -> list[int]:
        """Return the versions that the server can load from the model's folder, whatever their records say."""
        return sorted(int(name) for name in self.names() if re.fullmatch(r"\d+", name, re.ASCII))

    def names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.exists() else []

    def path(self, version: int) -> Path:
        return self.folder / str(version)

    def aside(self, state: str, version: int) -> Path:
        return self.folder / f"{state}-{version}"

    def record_path(self, version: int) -> Path:
        return self.releases / f"{version}.json"


def hash_version(folder: Path) -> dict[str, str]:
    """Return path -> sha256 of the files in a version's folder. Raises DamagedError if one is not a plain file."""
    try:
        return hash_files(folder)
    except NotPlainFileError as error:
        raise DamagedError(str(error)) from None
