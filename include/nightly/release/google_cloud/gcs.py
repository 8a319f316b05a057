"""Releases in Google Cloud Storage, where a version appears whole or not at all.

    gs://BUCKET/PREFIX/<model>/releases.json            the index: which versions exist, oldest first
    gs://BUCKET/PREFIX/<model>/<version>-<digest>/...   the files of one version

A bucket cannot rename folders, and TensorFlow Serving loads a numeric "folder" as soon as it has one object: the model
lacks its variables and fails at the first request (tensorflow/serving issue 1086). So no name here parses as a version.
A version exists once `releases.json` names it. That object is replaced atomically, and only if its generation is the
one that was read before the upload. So of two concurrent releases, the second is refused.

The index also names its owner, the machine that releases here. Other machines are refused until a person makes one the
owner (`bin/releases own`). A serving machine downloads the versions with `bin/pull`.

The digest is computed from the released files, so two releases never write to the same object. Each object is created
with the precondition that it does not exist. An existing object is accepted only if its size and CRC32C are those of
our file.
"""

import base64
import hashlib
import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import requests
from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption

from nightly.records.night import utc_now
from nightly.records.release import Machine, Owner, ReleaseRecord, Releases
from nightly.release.errors import CollisionError, DamagedError, NotPublished, ReleaseError
from nightly.release.machine import this_machine
from nightly.release.store import ReleaseStore
from nightly.release.versions import hash_version

log = logging.getLogger("nightly")

INDEX = "releases.json"


class GcsReleases:
    """One model's releases below `base`, gs://bucket/prefix, with Google's application default credentials.

    STORAGE_EMULATOR_HOST, which the client library reads, replaces Google's address.

    :param store: the store whose releases are published; None to read only
    """

    name = "gcs"

    def __init__(self, base: str, model: str, store: ReleaseStore | None = None) -> None:
        self.model = model
        self.store = store
        bucket, _, prefix = base.removeprefix("gs://").strip("/").partition("/")
        self._prefix = f"{prefix}/{model}/" if prefix else f"{model}/"
        self.address = f"gs://{bucket}/{self._prefix.rstrip('/')}"
        with self._reported():
            self._bucket = storage.Client().bucket(bucket)

    def uri(self, record: ReleaseRecord) -> str:
        """Return the address of a release's folder."""
        return f"{self.address}/{folder_name(record)}"

    def releases(self) -> list[ReleaseRecord]:
        """Return the released versions, oldest first; the last is current. Raises ReleaseError."""
        with self._reported():
            return self._index()[0].releases

    def publish(self, record: ReleaseRecord, folder: Path) -> dict[str, Any]:
        """Upload the missing files, then add the version to the index. See ReleaseTarget."""
        if hash_version(folder) != record.files:
            raise DamagedError(f"{folder} is not what was released as {self.model} {record.version}: not uploaded")
        with self._reported():
            index, generation = self._index()
            releases = index.releases
            if foreign := self._foreign(index):
                raise CollisionError(foreign)
            same = [other for other in releases if other.version == record.version]
            if any(other.files != record.files for other in same):
                raise CollisionError(
                    f"{self.address} has a {record.version} with other files, of run {same[0].run_id}: two machines "
                    "release to the same place. Give each a prefix of its own, and release again in a new run."
                )
            newer = [other for other in releases if other.version > record.version]
            if newer and not same:
                raise CollisionError(
                    f"{self.address} is at {newer[-1].version}, of run {newer[-1].run_id}, which is newer than "
                    f"{record.version} and unknown here: two machines release to the same place. Give each a prefix "
                    "of its own."
                )
            self._upload(record, folder)
            if not same:
                generation = self._commit(self._owned(index, [*releases, record]), generation)
        return {"uri": self.uri(record), "index_generation": generation}

    def own(self, *, by: str, reason: str) -> Owner:
        """Make this machine the owner, so that its later releases are published. Raises ReleaseError."""
        if not reason.strip():
            raise ReleaseError(f"{self.address} does not get another owner without a reason: give one")
        with self._reported():
            index, generation = self._index()
            owner = self._owner(by, reason)
            self._commit(index.model_copy(update={"owners": [*index.owners, owner]}), generation)
        return owner

    def retire(self, records: list[ReleaseRecord]) -> list[int]:
        """Remove versions from the index, then delete the files of versions that are not in it. See ReleaseTarget."""
        with self._reported():
            index, generation = self._index()
            releases = index.releases
            if foreign := self._foreign(index):
                log.warning("nothing is retired: %s", foreign)
                return []
            withdrawn = {record.version for record in records if record.state == "quarantined"}
            remaining = [release for release in releases if release.version not in withdrawn]
            old = {record.version for record in records if record.state == "removed"}
            if self.store is not None:  # versions of an earlier owner
                old |= {release.version for release in releases} - {record.version for record in records}
            kept = [release for release in remaining if release.version not in old or release in remaining[-2:]]
            if len(kept) < len(releases):
                self._commit(self._owned(index, kept), generation)
            self._sweep(kept)
        return [release.version for release in releases if release not in kept]

    def size(self, record: ReleaseRecord) -> int:
        """Return the bytes of a release's files. Raises ReleaseError."""
        with self._reported():
            return sum(blob.size for blob in self._blobs(record))

    def download(self, record: ReleaseRecord, folder: Path, names: Collection[str] | None = None) -> Path:
        """Download a release's files, or those in `names`, into the new `folder`, and return it.

        Raises DamagedError if one of them differs.
        """
        names = record.files if names is None else names
        with self._reported():
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._blob(record, name).download_to_filename(str(folder / name), checksum="crc32c")
                except (NotFound, DataCorruption) as error:
                    raise DamagedError(f"{self.uri(record)}/{name} cannot be used: {error}") from error
        hashes = hash_version(folder)
        wrong = sorted(name for name in names if hashes.get(name) != record.files[name])
        if wrong:
            raise DamagedError(f"{self.uri(record)} is not what was released: {', '.join(wrong)} differ")
        return folder

    def _upload(self, record: ReleaseRecord, folder: Path) -> None:
        existing = {blob.name: blob for blob in self._blobs(record)}
        for name in record.files:
            path, blob = folder / name, self._blob(record, name)
            if blob.name not in existing:
                try:
                    blob.upload_from_filename(str(path), if_generation_match=0, checksum="crc32c")
                except PreconditionFailed:  # another try of this release uploaded it, or our response was lost
                    blob.reload()
            blob = existing.get(blob.name, blob)
            if (blob.size, blob.crc32c) != (path.stat().st_size, crc32c(path)):
                raise DamagedError(
                    f"gs://{self._bucket.name}/{blob.name} is not {path} (size or CRC32C differ), and the release that "
                    "uploaded it never wrote anything else there. Delete that object and clear `release`."
                )

    def _foreign(self, index: Releases) -> str:
        """Return why this machine must not write here; "" if it may.

        An index without an owner belongs to the machine whose store knows all its releases.
        """
        if self.store is None:
            return ""
        known = {record.version: record.files for record in self.store.disk.records()}
        unknown = [release for release in index.releases if known.get(release.version) != release.files]
        if index.owners and index.owners[-1].machine.id != self._machine.id:
            owner = index.owners[-1]
            releaser = f"{owner.machine.host} ({owner.machine.folder}) since {owner.since:%Y-%m-%d %H:%M} UTC"
        elif not index.owners and unknown:
            releaser = f"another machine: it has {unknown[-1].version}, of run {unknown[-1].run_id}, unknown here"
        else:
            return ""
        return (
            f"{self.address} belongs to {releaser}, and two machines must not release to one prefix. Give each its own "
            f'(release.gcs), or make this machine the owner: bin/releases own {self.model} --reason "…"'
        )

    def _owned(self, index: Releases, releases: list[ReleaseRecord]) -> Releases:
        """Return the index with these releases, and with this machine as owner if it had none."""
        owners = index.owners or ([self._owner("its first release")] if self.store is not None else [])
        return index.model_copy(update={"releases": releases, "owners": owners})

    def _owner(self, by: str, reason: str = "") -> Owner:
        return Owner(machine=self._machine, by=by, reason=reason, since=utc_now())

    @cached_property
    def _machine(self) -> Machine:
        assert self.store is not None  # only a machine that releases can be the owner
        return this_machine(self.store.disk.releases.parent)

    def _index(self) -> tuple[Releases, int]:
        """Return the index and its generation; 0 before the first release."""
        blob = self._bucket.blob(self._prefix + INDEX)
        try:
            text = blob.download_as_bytes(checksum="crc32c")
        except NotFound:
            return Releases(model=self.model, releases=[]), 0
        return Releases.parse(text, where=f"{self.address}/{INDEX}"), blob.generation

    def _commit(self, index: Releases, generation: int) -> int:
        """Replace the index if it still has that generation; return the new generation."""
        blob = self._bucket.blob(self._prefix + INDEX)
        blob.cache_control = "no-store"  # a publicly readable object is otherwise cached for an hour
        text = index.model_dump_json(indent=2) + "\n"
        try:
            blob.upload_from_string(text, "application/json", if_generation_match=generation, checksum="crc32c")
        except PreconditionFailed as error:
            actual, actual_generation = self._index()
            if actual == index:  # our own write, whose response was lost
                return actual_generation
            at = f"{actual.releases[-1].version}, of run {actual.releases[-1].run_id}" if actual.releases else "nothing"
            raise CollisionError(
                f"{self.address}/{INDEX} was changed by somebody else in the meantime and is now at {at}; nothing of "
                "ours was published. Clear `release` to publish what is in production here."
            ) from error
        return blob.generation

    def _sweep(self, kept: list[ReleaseRecord]) -> None:
        """Delete the files of killed uploads and retired versions.

        A folder that is not in the index and not newer than the current version can never enter the index. A newer one
        may be a running upload, or a version that was rolled back and is kept for inspection.
        """
        folders = {folder_name(record) for record in kept}
        for blob in self._bucket.list_blobs(prefix=self._prefix):
            folder = blob.name.removeprefix(self._prefix).partition("/")[0]
            version, _, digest = folder.partition("-")
            if digest and version.isdecimal() and folder not in folders and kept and int(version) <= kept[-1].version:
                try:
                    blob.delete(if_generation_match=blob.generation)
                except (NotFound, PreconditionFailed):
                    log.info("%s was gone already", blob.name)

    def _blobs(self, record: ReleaseRecord) -> list[storage.Blob]:
        return list(self._bucket.list_blobs(prefix=f"{self._prefix}{folder_name(record)}/"))

    def _blob(self, record: ReleaseRecord, name: str) -> storage.Blob:
        return self._bucket.blob(f"{self._prefix}{folder_name(record)}/{name}")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except ReleaseError:
            raise
        except (GoogleAPIError, GoogleAuthError, requests.RequestException, DataCorruption, OSError) as error:
            raise NotPublished(
                f"{self.address}: {error}. The release in the serving volume stands; a retry continues from here."
            ) from error


def folder_name(record: ReleaseRecord) -> str:
    """Return <version>-<digest of its files>: not a number, so no model server loads it as a version."""
    text = json.dumps(record.files, sort_keys=True)
    return f"{record.version}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def crc32c(path: Path) -> str:
    """Return a file's CRC32C as Google Cloud Storage reports it: base64 of the big-endian bytes."""
    checksum = google_crc32c.Checksum()
    with open(path, "rb") as file:
        for _ in checksum.consume(file, 2**20):
            pass
    return base64.b64encode(checksum.digest()).decode()
