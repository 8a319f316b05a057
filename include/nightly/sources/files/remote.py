"""Objects in buckets: what a path lists, with each object's ETag."""

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from os.path import commonprefix
from pathlib import Path
from typing import Any

import obstore

from nightly.sources.base import Fetched, Part
from nightly.sources.errors import NothingFoundError, PathNotFoundError
from nightly.sources.files.formats import READABLE, is_hidden, kind_of, suffix_of
from nightly.sources.files.listing import Globs, Listing, tell_missing
from nightly.sources.files.stores import errors_explained, open_store
from nightly.sources.files.tables import LOG, METADATA, refuse_tables
from nightly.sources.files.transfer import fingerprint, receive

Matches = dict[str, tuple[str, dict[str, Any]]]  # key -> the path that it was listed for, and the store's metadata


class ObjectFiles:
    """The objects of a path in a bucket."""

    connections = 1

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        scheme, _, rest = listing.pattern.text.partition("://")
        bucket = rest.partition("/")[0]
        self.bucket = f"{scheme}://{bucket}"
        self.connection = listing.connection
        self.store = open_store(scheme, bucket, listing.context.connection)
        self._metadata: dict[str, dict[str, Any]] = {}

    def parts(self) -> list[Part]:
        pattern = self.listing.pattern
        root, paths = self._root, self._paths
        with errors_explained(pattern.text, self.connection):
            matches = self._at(root) if pattern.root == pattern.text else self._matching(self._globs)
            logs = [] if root in matches else self._logs(root)
        refuse_tables(f"{self.bucket}/{key}" for key in (*matches, *logs))
        if root in matches:  # the path is one object
            keys = [root] if self.listing.format or kind_of(root) else []
            root = root.rpartition("/")[0]
        else:
            keys = sorted(key for key in matches if self.listing.is_readable(key[len(root) :]))
        if not keys and not pattern.step:
            raise self._nothing(list(matches))
        if pattern.step:
            present = {matches[key][0] for key in keys}
            tell_missing([f"{self.bucket}/{path}" for path in paths if path not in present])
        return [self._part(key, matches[key][1], root, paths[matches[key][0]]) for key in keys]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        key, metadata = _key(part.name), self._metadata[part.name]
        return Fetched(receive(self.store, key, part.name, self.connection, metadata, target))

    def lost(self, name: str) -> Part | None:
        key = _key(name)
        path = self._globs.match(key) if name.startswith(f"{self.bucket}/") else None
        if path is None or not self.listing.is_readable(key[len(self._root) :]):
            return None
        return Part(name, suffix_of(key, self.listing.format), end=self._paths[path])

    @cached_property
    def _root(self) -> str:
        return _key(self.listing.pattern.root).strip("/")

    @cached_property
    def _paths(self) -> dict[str, dt.datetime | None]:
        return {_key(path).strip("/"): end for path, end in self.listing.paths().items()}

    @cached_property
    def _globs(self) -> Globs:
        return Globs(self._paths)

    def _part(self, key: str, metadata: dict[str, Any], root: str, end: Any) -> Part:
        url = f"{self.bucket}/{key}"
        self._metadata[url] = metadata
        suffix, partition = suffix_of(key, self.listing.format), self.listing.partition(key[len(root) :])
        return Part(url, suffix, fingerprint(metadata), end, metadata["size"], partition=partition)

    def _at(self, key: str) -> Matches:
        """Return the object with this key, or all objects of the folder."""
        if key and not self.listing.pattern.text.endswith("/"):
            try:
                return {key: (key, obstore.head(self.store, key))}
            except FileNotFoundError:
                pass
            except obstore.exceptions.PermissionDeniedError:
                return {key: (key, obstore.get(self.store, key).meta)}  # its error says why, which HEAD's cannot
        return {item["path"]: (key, item) for item in self._list(key)}

    def _matching(self, globs: Globs) -> Matches:
        """Return the objects, or those of the folders, that any of these globs matches.

        One listing goes from the first to the last of them in the order of names, so dates as in `2016/03/01` list only
        the window, and a day costs no request of its own.
        """
        first, last = min(globs.by_beginning), max(globs.by_beginning)
        matches: Matches = {}
        folder = commonprefix([first, last]).rpartition("/")[0]  # noqa: RUF071
        for item in self._list(folder, after=first[:-1]):
            key = item["path"]
            if key > last and not key.startswith(last):
                break
            path = globs.match(key)
            if path is not None:
                matches[key] = (path, item)
        return matches

    def _logs(self, root: str) -> list[str]:
        """Return the objects in the logs that a table has in the root, which globs and dates do not match."""
        if self.listing.pattern.root == self.listing.pattern.text:
            return []
        folders = [f"{root}/{name}".strip("/") for name in (LOG, METADATA)]
        with suppress(obstore.exceptions.PermissionDeniedError):  # the credentials may be limited to the globs
            return [item["path"] for folder in folders for item in self._list(folder)]
        return []

    def _list(self, folder: str, after: str = "") -> Iterator[dict[str, Any]]:
        for items in self.store.list(folder or None, offset=after or None, chunk_size=1000):
            yield from (item for item in items if not self._is_folder(item))

    def _is_folder(self, item: dict[str, Any]) -> bool:
        """Return whether an object only marks a folder: an empty one, whose key ends in the `/` that listings cut."""
        if item["size"] or is_hidden(item["path"].rpartition("/")[2]):
            return False
        with suppress(obstore.exceptions.PermissionDeniedError):
            try:
                obstore.head(self.store, item["path"])
            except FileNotFoundError:
                return True
        return False

    def _nothing(self, matches: list[str]) -> PathNotFoundError | NothingFoundError:
        text = self.listing.pattern.text
        if not matches:
            return PathNotFoundError(
                f"{text}: there is no such object or folder; check the path (`source.path` in config.toml)."
            )
        shown = ", ".join(key.rpartition("/")[2] for key in sorted(matches)[:5])
        return NothingFoundError(f"{text} holds no file that can be read ({READABLE}); found: {shown}.")


def _key(url: str) -> str:
    """Return what stands behind the bucket in a URL."""
    return url.partition("://")[2].partition("/")[2]
