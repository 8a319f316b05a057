"""Snapshots on disk: <root>/<model>/<id>/ with Parquet shards (rows-….parquet) and manifest.json.

A snapshot's id is a hash of its columns and its rows: the same rows have the same id, whatever the order and the
division of the bodies. Rows are stored by time, if they have one, then by hash. A snapshot never changes: it is built
in another folder, synced and renamed. A damaged snapshot is replaced as a whole.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from nightly.io.atomic import sync_path
from nightly.io.hints import did_you_mean
from nightly.io.owned import remove_abandoned
from nightly.records.snapshot import SnapshotManifest
from nightly.snapshots.errors import DamagedSnapshotError, SnapshotNotFoundError
from nightly.snapshots.verification import read_manifest, verify_snapshot
from nightly.state import current, publish, remove

log = logging.getLogger("nightly")

BUILDING = ".building-"


class SnapshotStore:
    """The snapshots of one model."""

    def __init__(self, root: Path, model: str) -> None:
        self.model = model
        self.folder = Path(root) / model

    def path(self, snapshot_id: str) -> Path:
        return self.folder / snapshot_id

    def ids(self) -> list[str]:
        """Return the ids of all snapshots, damaged ones included."""
        return sorted(path.name for path in self.folder.glob("[!.]*/"))

    def manifests(self) -> list[SnapshotManifest]:
        """Return the manifests of the snapshots with complete files, the oldest first. Damaged snapshots are logged."""
        intact, damaged = self.survey(content=False)
        for error in damaged:
            log.warning("%s", error)
        return intact

    def survey(self, *, content: bool) -> tuple[list[SnapshotManifest], list[DamagedSnapshotError]]:
        """Verify every snapshot; return the manifests of the intact ones, the oldest first, and the errors.

        :param content: compare hashes; otherwise only the files' names and sizes
        """
        intact, damaged = [], []
        for name in self.ids():
            try:
                intact.append(verify_snapshot(self.path(name), content=content))
            except DamagedSnapshotError as error:
                damaged.append(error)
        return sorted(intact, key=lambda manifest: manifest.created_at), damaged

    def get(self, snapshot_id: str) -> SnapshotManifest:
        """Return the manifest of the snapshot with this id or prefix. Raises SnapshotNotFoundError."""
        return read_manifest(self.path(self._resolve(snapshot_id)))

    def verify(self, snapshot_id: str) -> SnapshotManifest:
        """Compare the files of the snapshot with this id or prefix with its manifest.

        Raises DamagedSnapshotError or SnapshotNotFoundError.
        """
        return verify_snapshot(self.path(self._resolve(snapshot_id)))

    def _resolve(self, snapshot_id: str) -> str:
        """Return the only id that equals or begins with `snapshot_id`."""
        ids = self.ids()
        matching = [name for name in ids if name.startswith(snapshot_id)] if snapshot_id else ids
        if len(matching) > 1:
            raise SnapshotNotFoundError(f"several snapshots of {self.model} begin with {snapshot_id!r}: {matching}")
        if not matching:
            hint = did_you_mean(snapshot_id, ids) if ids else "; there is none yet"
            raise SnapshotNotFoundError(f"{self.folder} has no snapshot {snapshot_id!r}{hint}")
        return matching[0]

    def retain(self, keep: int, referred: set[str], keep_referred: int, always: set[str]) -> list[str]:
        """Remove snapshots that are neither recently used nor in `always`; return their ids.

        :param keep: how many of all snapshots stay, the most recently used first
        :param keep_referred: how many of those in `referred` stay, the most recently used first
        """
        self.sweep()
        last_use = {name: self.path(name).stat().st_mtime for name in self.ids()}
        newest = sorted(last_use, key=last_use.__getitem__, reverse=True)
        kept = {*newest[:keep], *[name for name in newest if name in referred][:keep_referred], *always}
        removed = [name for name in newest if name not in kept]
        for name in removed:
            self._remove(name)
        return removed

    def use(self, snapshot_id: str) -> SnapshotManifest | None:
        """Mark a snapshot as used now, on all hosts, so that retention keeps it, and return its manifest.

        Return None if it is missing or damaged. One that a process has not published before it died is published.
        """
        folder = self.path(snapshot_id)
        try:
            manifest = verify_snapshot(folder)
            os.utime(folder)
            publish(folder)
        except FileNotFoundError:  # another run's retention removed it meanwhile
            return None
        except DamagedSnapshotError as error:
            if folder.exists():
                log.warning("%s", error)
            return None
        return manifest

    def add(self, built: Path, snapshot_id: str) -> SnapshotManifest | None:
        """Rename `built` to its id, replacing a damaged snapshot; if an intact one exists, return its manifest."""
        with current().locked(self.folder.with_name(f".{self.model}.lock")):
            if existing := self.use(snapshot_id):
                return existing
            self._remove(snapshot_id)
            built.rename(self.path(snapshot_id))
            sync_path(self.folder)
            publish(self.path(snapshot_id))
        return None

    def _remove(self, snapshot_id: str) -> None:
        """Remove a snapshot, if it is on this host or any other."""
        folder = self.path(snapshot_id)
        if folder.exists():
            doomed = Path(tempfile.mkdtemp(dir=self.folder, prefix=".removing-"))
            folder.rename(doomed)  # no reader sees a half-removed snapshot under its id
            shutil.rmtree(doomed, ignore_errors=True)  # `sweep` removes the rest later
        remove(folder)

    def sweep(self) -> None:
        """Remove the folders left by processes that died while building or removing."""
        leftovers = [*self.folder.glob(f"{BUILDING}*"), *self.folder.glob(".removing-*")]
        for leftover in remove_abandoned(leftovers):
            log.info("removed %s, left by a process that died", leftover)
