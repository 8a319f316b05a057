"""Content in a bucket: publish, fetch and remove it.

Nothing that was uploaded is visible before its manifest. A process that is killed leaves blobs without a manifest,
which the sweep deletes.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nightly.state.cache import Cache
from nightly.state.errors import ChangedElsewhereError, DamagedStateError, PreconditionFailedError
from nightly.state.manifests import Manifest, blob_key, manifest_key, name_of_key
from nightly.state.names import STUBS, local_path
from nightly.state.objects import Objects
from nightly.state.sweeping import Watch

log = logging.getLogger("nightly")

CONNECTIONS = 8
FRESH = timedelta(hours=1)


class Content:
    """The content in a bucket.

    :param fresh: how exactly a manifest's time tells the last publication
    """

    def __init__(self, objects: Objects, cache: Cache, fresh: timedelta = FRESH) -> None:
        self.objects = objects
        self.cache = cache
        self.fresh = fresh

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of the content `name` in the bucket, or None."""
        key = manifest_key(name)
        stored = self.objects.get(key)
        return Manifest.parse(stored.data, key) if stored else None

    def publish(self, name: str, *, replace: bool = False) -> None:
        """See nightly.state.base.State.publish, and replace."""
        with self.cache.in_use(name):
            manifest = self.put(name, replace=replace)
            self.cache.keep(manifest)
            self.cache.mark(manifest)
        self.cache.make_room()

    def put(self, name: str, *, replace: bool = False) -> Manifest:
        """Upload the content of this host's folder, and return its manifest."""
        manifest = Manifest.of(name, local_path(name))
        if not replace and self._is_published(manifest) and self.cache.has(manifest):
            return manifest
        watch = Watch(self.objects)
        self.upload(manifest)  # also what is published and was made here again, as the bucket may have lost its blobs
        if replace:
            self.objects.put(manifest_key(name), manifest.dump())
        else:
            self._create(manifest)
        while watch.has_swept():
            self.upload(manifest)
        return manifest

    def fetch(self, name: str) -> None:
        """See nightly.state.base.State.fetch."""
        manifest = self.manifest(name)
        if manifest is None:
            return
        with self.cache.in_use(name):  # not while it may be evicted by a process that looked before it was held
            if self.cache.has(manifest):
                return
        self.cache.make_room(sum(manifest.blobs.values()))
        with self.cache.in_use(name):
            if self.cache.has(manifest):
                return
            try:
                self.cache.install(manifest, self._download)
            except DamagedStateError:
                if self.manifest(name) is None:  # it was removed meanwhile
                    return
                raise
        self.cache.make_room(keep=name)

    def restore(self, name: str) -> bool:
        """See nightly.state.base.State.restore."""
        if self.manifest(name) is None:
            return False
        with self.cache.in_use(name):
            self.cache.drop(name)
        self.fetch(name)
        return True

    def names(self, folder: str) -> list[str]:
        """Return the names of the content published directly below the folder of this name."""
        keys = (entry.key for entry in self.objects.list(manifest_key(folder).removesuffix(".json")))
        names = (name_of_key(key).removeprefix(f"{folder}/") for key in keys)
        return [name for name in names if "/" not in name]

    def list_stubs(self, model: str, manifests: Mapping[str, tuple[bytes, datetime]]) -> None:
        """Have a folder on this host for each snapshot and baseline of the model, with the files of its manifest.

        :param manifests: name -> the manifest's content and time
        """
        for name, (data, published) in manifests.items():
            path = local_path(name)
            is_other = self.cache.knows(name) and self.cache.digest(name) != hashlib.sha256(data).hexdigest()
            if is_other or not path.exists():  # what this host is about to publish stays
                with self.cache.in_use(name):
                    manifest = Manifest.parse(data, manifest_key(name))
                    self.cache.install(manifest, lambda sha256, path: None, stub=True)
                os.utime(path, (0, 0))
            if path.stat().st_mtime < published.timestamp():
                os.utime(path, (published.timestamp(),) * 2)
        held = self.cache.held()
        for prefix in STUBS:
            for name in self.cache.known(f"{prefix}/{model}") - manifests.keys() - held:
                if self.objects.head(manifest_key(name)) is None:  # else it was published after the list
                    with self.cache.in_use(name):
                        self.cache.drop(name)

    def remove(self, name: str) -> None:
        """See nightly.state.base.State.remove."""
        self.objects.delete(manifest_key(name))
        with self.cache.in_use(name):
            self.cache.drop(name)

    def upload(self, manifest: Manifest) -> None:
        """Upload each blob of the manifest that the bucket does not have. Its files are in this host's folder."""
        paths = {file.sha256: local_path(manifest.name) / name for name, file in manifest.files.items()}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda blob: self._upload(*blob, paths[blob[0]]), manifest.blobs.items()))

    def _download(self, sha256: str, path: Path) -> str | None:
        """Download a blob, and return its SHA-256. One with other bytes is deleted: the next publication uploads it."""
        key = blob_key(sha256)
        actual = self.objects.download(key, path)
        if actual in (None, sha256):
            return actual
        path.unlink()
        before = self.objects.head(key)
        again = self.objects.download(key, path)  # the way may have been at fault
        if again not in (None, sha256) and self.objects.head(key) == before:
            self.objects.delete(key)
        return again

    def _upload(self, sha256: str, size: int, path: Path) -> None:
        existing = self.objects.head(blob_key(sha256))
        if existing is None or existing.bytes != size:
            self.objects.upload(blob_key(sha256), path)

    def _is_published(self, manifest: Manifest) -> bool:
        """Return whether the bucket has this content; then write down that it was published again now.

        Retention keeps what was used last, and asks the manifest's time.
        """
        key = manifest_key(manifest.name)
        existing = self.objects.get(key)
        if existing is None:
            return False
        if existing.data != manifest.dump():
            raise ChangedElsewhereError(
                f"{manifest.name} was published with other content, and content never changes; remove it first."
            )
        if datetime.now(UTC) - existing.modified > self.fresh:
            try:
                self.objects.swap(key, existing.data, existing.etag)
            except PreconditionFailedError:
                return self._is_published(manifest)
        return True

    def _create(self, manifest: Manifest) -> None:
        try:
            self.objects.create(manifest_key(manifest.name), manifest.dump())
        except PreconditionFailedError:  # by another host, or by this one, whose answer was lost
            if not self._is_published(manifest):
                self._create(manifest)
