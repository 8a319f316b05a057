"""The versions of a model whose state is in a bucket, and their transitions.

On one disk, a version is in the model server's sight by its folder's name, and its record follows. In a bucket there is
no rename: the records alone say which versions are to be served, and each change is one record that is replaced by
compare-and-swap. So it is made for all hosts at once, or not at all, wherever a host dies:

    before a version's record     it does not exist; at most its files are in the bucket, which no record names
    after it                      it is `verifying` or `released`, and its files have been there before

A version's files are the content `serving/<model>/<version>`, whatever its state. A host fetches them when it reads
them. The model server's host keeps a volume that fits the records (nightly.serving.pull).
"""

import datetime as dt
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from nightly.io.errors import DamageError
from nightly.records.release import ReleaseRecord
from nightly.release.errors import ReleaseError
from nightly.release.transitions import Transitions
from nightly.release.versions import ASIDE, LIVE, Versions
from nightly.state import current

LOG = logging.getLogger(__name__)


def of_all_models(releases: Path) -> Path:
    """Return the folder of the records that are not one model's: models.config, and who releases."""
    return releases / "_all"


class SharedVersions(Versions):
    """See Versions. Its folder has copies of this host, which are replaced where they are damaged."""

    def in_sight(self, record: ReleaseRecord) -> bool:
        return record.state in LIVE

    def names(self) -> list[str]:
        return [str(record.version) for record in self.records() if self.in_sight(record)]

    def find(self, version: int) -> Path:
        record = self.record(version)
        for folder in self._folders(record):
            self._fetch(folder)
            if folder.is_dir():
                return folder
        raise self.gone(record)

    def damage(self, record: ReleaseRecord, folder: Path) -> dict[str, str]:
        damage = super().damage(record, folder)
        if damage and folder == self.path(record.version):  # the bucket may have it whole
            shutil.rmtree(folder, ignore_errors=True)
            self._fetch(folder)
            damage = super().damage(record, folder)
        return damage

    def _folders(self, record: ReleaseRecord) -> list[Path]:
        """Return the folders that may hold its files: those named after its state, too, if they come from a folder."""
        aside = [self.aside(record.state, record.version)] if record.state in ASIDE else []
        return [] if record.state == "removed" else [self.path(record.version), *aside]

    def _fetch(self, folder: Path) -> None:
        try:
            current().fetch(folder)
        except DamageError as error:  # whoever needs the files compares them with the record
            LOG.error("%s", error)
            folder.mkdir(parents=True, exist_ok=True)


class SharedTransitions(Transitions):
    """See Transitions. Each saves one record."""

    def recover(self) -> None:
        self._clear_staging()
        present = {*current().names(self.disk.folder)}
        removed = [record.version for record in self.disk.records() if record.state == "removed"]
        for version in removed:  # a process may have died before it deleted the files
            for folder in (self.disk.path(version), *(self.disk.aside(state, version) for state in ASIDE)):
                if folder.name in present:
                    current().remove(folder)

    def check_volume(self) -> None:
        """Do nothing: there is no volume here that may not be mounted."""

    def publish(self, source: Path, record: ReleaseRecord) -> ReleaseRecord:
        staging, final = self._staging(record.version), self.disk.path(record.version)
        LOG.info("releasing %s %s: %s files from %s", self.model, record.version, len(record.files), source)
        try:
            self._copy(source, staging, staging, record)
            shutil.rmtree(final, ignore_errors=True)  # of a release that died before its record
            self.rename(staging, final)
        except OSError as error:
            raise ReleaseError(f"{source} could not be copied to {final}, nothing was released: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        current().publish(final)
        state = "verifying" if record.server else "released"
        record = self.save(record, state=state, released_at=dt.datetime.now(dt.UTC))
        LOG.info("%s %s %s", state, self.model, record.version)
        return record

    def withdraw(self, record: ReleaseRecord, why: str, state: str = "quarantined") -> ReleaseRecord:
        if record.state in ("quarantined", "removed"):
            return record
        LOG.warning("%s %s %s: %s", state, self.model, record.version, why)
        return self.save(record, state=state, why=why)

    def replace_files(self, record: ReleaseRecord, copies: Mapping[str, Path]) -> None:
        super().replace_files(record, copies)
        # Its manifest may be another: it has the empty folders, too, which a repair does not bring back.
        current().replace(self.disk.path(record.version))

    def remove(self, record: ReleaseRecord, why: str) -> None:
        super().remove(record, why)
        current().remove(self.disk.path(record.version))
        if record.state in ASIDE:  # see SharedVersions._folders
            current().remove(self.disk.aside(record.state, record.version))

    def drop_unverified(self, record: ReleaseRecord) -> None:
        for other in self.disk.records():
            if other.state == "unverified" and other.files == record.files:
                self.save(other, state="removed", why=f"the same files are version {record.version}")
                current().remove(self.disk.path(other.version))


def versions_and_transitions(serving: Path, releases: Path, model: str) -> tuple[Versions, Transitions]:
    """Return the implementation for a folder or for a bucket, where only the record says what a server may see."""
    if current().shared:
        shared = SharedVersions(serving, releases, model)
        return shared, SharedTransitions(shared)
    versions = Versions(serving, releases, model)
    return versions, Transitions(versions)


def arrange(serving: Path, releases: Path) -> None:
    """Give versions that were copied from a bucket to a folder the names that their states have there."""
    for folder in serving.glob("*/"):
        disk = Versions(serving, releases, folder.name)
        for record in disk.records():
            if record.state in ASIDE and disk.path(record.version).is_dir():
                disk.path(record.version).rename(disk.aside(record.state, record.version))
