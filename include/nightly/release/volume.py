"""A model server's volume that versions are pulled into, on a host that does not release.

A version is copied beside the model's folder. Every file's SHA-256 is compared with the record. Then the version
appears in one rename, as TensorFlow Serving needs it, and a withdrawn one leaves the server's sight in one rename.
<into>/.pulled/<model>/ has a record of each version that was pulled. Other versions are never touched. Several
processes may pull into one volume.
"""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nightly.io.atomic import sync_path
from nightly.io.files import copy_files, stamp
from nightly.io.locks import locked
from nightly.io.space import check_space
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError, SpaceError
from nightly.release.versions import hash_version

log = logging.getLogger("nightly")


class Source(Protocol):
    """Where versions are pulled from."""

    address: str

    def size(self, record: ReleaseRecord) -> int:
        """Return the bytes of the version's files; 0 if they are gone. Raises ReleaseError."""

    def download(self, record: ReleaseRecord, folder: Path) -> Path:
        """Return a folder with the version's files: `folder`, which is new, or another. Raises ReleaseError."""


class Volume:
    """One model's versions in the volume `into`."""

    def __init__(self, into: Path, model: str) -> None:
        self.folder, self._pulled = into / model, into / ".pulled" / model
        self._whole: dict[int, list[str]] = {}  # version -> stamps of its files, when their hashes were compared

    def add(self, records: Iterable[ReleaseRecord], source: Source) -> None:
        """Have these versions in the volume. Raises ReleaseError, with nothing changed that the server sees."""
        with self._locked():
            present = self.present()
            foreign = [version for version in present if not (self._pulled / f"{version}.json").exists()]
            if foreign:
                raise ReleaseError(
                    f"{self.folder} has {', '.join(map(str, foreign))}, which did not come from {source.address}. Pull "
                    "into a volume of its own, not into the one that releases are made in."
                )
            for record in records:
                if record.version not in present:
                    self._install(record, source)
                self._verify(record)

    def remove(self, versions: Iterable[int]) -> None:
        """Move those of these versions that are in the volume out of the server's sight, and delete them."""
        with self._locked():
            for version in sorted({*versions} & {*self.present()}):
                # Moved out of sight in one rename, so that the server never sees half a version.
                log.info("%s is taken out of %s", version, self.folder)
                (self.folder / str(version)).rename(self._pulled / f"removed-{version}")
                sync_path(self.folder)

    def present(self) -> list[int]:
        """Return the versions that the server sees."""
        return [int(path.name) for path in self.folder.glob("*") if re.fullmatch(r"\d+", path.name, re.ASCII)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._pulled / ".lock"):
            yield
            shutil.rmtree(self._pulled / "work", ignore_errors=True)
            for removed in self._pulled.glob("removed-*"):
                shutil.rmtree(removed)
            for unfinished in self._pulled.glob(".*.json.*"):  # the record of a pull that was killed while it wrote it
                unfinished.unlink()
            for record in self._pulled.glob("[0-9]*.json"):
                if not (self.folder / record.stem).exists():
                    record.unlink()

    def _install(self, record: ReleaseRecord, source: Source) -> None:
        """Download, verify, copy and fsync, then rename.

        An empty model folder would unload the model, so the folder appears in one rename too, with its first version.
        """
        log.info("pulling %s %s from %s: %s files", record.model, record.version, source.address, len(record.files))
        staging = self._pulled / "work/staging"
        shutil.rmtree(self._pulled / "work", ignore_errors=True)  # left by an interrupted pull
        needed = 2 * source.size(record)  # its download, and the copy
        check_space({self._pulled: needed}, f"pulling {record.model} {record.version}", SpaceError, "Make room.")
        files = source.download(record, self._pulled / "work/download")
        copy_files(files, staging / str(record.version), staging)
        if hash_version(staging / str(record.version)) != record.files:
            raise DamagedError(
                f"the copy of {record.model} {record.version} from {source.address} in {staging} is not what was "
                "released. Retry; if that does not help, repair it where it is released: bin/releases repair "
                f"{record.model} {record.version}"
            )
        record.save(self._pulled / f"{record.version}.json")
        if self.folder.exists():
            (staging / str(record.version)).rename(self.folder / str(record.version))
        else:
            staging.rename(self.folder)
        sync_path(self.folder)
        sync_path(self.folder.parent)

    def _verify(self, record: ReleaseRecord) -> None:
        """Raise DamagedError if the version's files are not those of its record. What has not changed is read once."""
        folder = self.folder / str(record.version)
        stamps = [stamp(path) for path in sorted(folder.rglob("*")) if path.is_file()]
        if self._whole.get(record.version) == stamps:
            return
        if hash_version(folder) != record.files:
            raise DamagedError(f"{folder} is not what was released: delete it, and it is pulled again")
        self._whole[record.version] = stamps
