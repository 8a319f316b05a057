"""Receive an object of a bucket into a file: a broken transfer goes on where it ended, also in another process.

TARGET.part has the bytes so far, and TARGET.of the fingerprint of their object.
"""

import hashlib
import logging
import random
import re
import time
from pathlib import Path
from typing import Any

import obstore

from nightly.io.atomic import sync_file
from nightly.io.space import SpaceError, check_space, full_disk_explained
from nightly.sources.errors import ChecksumError, ConnectionFailedError, IncompleteBodyError, UnreadableFileError
from nightly.sources.files.stores import ChangedError, Store, errors_explained

log = logging.getLogger(__name__)

CHUNK = 4 << 20
FAILURES = 5  # in a row, in which not a byte was received
CHANGES = 3
FIRST_WAIT_SECONDS = 1.0
MD5 = re.compile("[0-9a-f]{32}")

Metadata = dict[str, Any]  # of obstore: e_tag, size, last_modified, version


def fingerprint(metadata: Metadata) -> str:
    """Return a text that differs for another content of the object: its ETag, or its size and time."""
    etag = (metadata["e_tag"] or "").strip('"')  # Azure's listing has it without quotes
    return etag or f"{metadata['size']} {metadata['last_modified'].isoformat()}"


def receive(store: Store, key: str, url: str, connection: str, metadata: Metadata, target: Path) -> str:
    """Write the object to `target`, which appears when it is complete; return its fingerprint.

    An object that is replaced meanwhile is received anew.

    :param connection: the id of the connection, for messages
    :raises SourceError: e.g. ConnectionFailedError after several failures without progress
    """
    transfer = _Transfer(store, key, url, connection, metadata, target)
    failures = changes = 0
    while True:
        size = transfer.size()
        try:
            transfer.go_on()
            transfer.finish()
            return fingerprint(transfer.metadata)
        except SpaceError:
            transfer.discard()  # a partial body would keep the disk full
            raise
        except ChangedError as error:
            changes += 1
            if changes > CHANGES:
                raise
            log.warning("%s It is fetched anew.", error)
            transfer.refresh()
        except ChecksumError as error:
            log.warning("%s It is fetched once more, to compare.", error)
        except (ConnectionFailedError, IncompleteBodyError) as error:
            failures = 0 if transfer.size() > size else failures + 1
            if failures > FAILURES or not transfer.opened:  # the client has tried to open it several times
                raise
            wait = FIRST_WAIT_SECONDS * 2 ** max(failures - 1, 0) * random.uniform(0.5, 1)
            log.warning("%s Going on after %s bytes, in %.1f s.", error, f"{transfer.size():,}", wait)
            time.sleep(wait)


class _Transfer:
    """The state of one transfer."""

    def __init__(self, store: Store, key: str, url: str, connection: str, metadata: Metadata, target: Path) -> None:
        self.store, self.key, self.url, self.connection = store, key, url, connection
        self.metadata = metadata
        self.target = target
        self.part = target.with_name(target.name + ".part")
        self.part_of = target.with_name(target.name + ".of")
        self.opened = False  # whether the store has answered
        self._compared = ""  # the MD5 of a body that differs from the ETag
        if not self.part_of.exists() or self.part_of.read_text() != fingerprint(metadata):
            self.discard()
        elif self.size():
            log.info("%s: going on at byte %s, where an earlier try ended", url, f"{self.size():,}")

    def size(self) -> int:
        """Return how many bytes are received."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.part_of.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Begin anew with what the object is now."""
        self.discard()
        with errors_explained(self.url, self.connection):
            self.metadata = obstore.head(self.store, self.key)

    def go_on(self) -> None:
        """Receive the missing bytes."""
        start, total = self.size(), self.metadata["size"]
        if not total:
            raise UnreadableFileError(f"{self.url} is empty; a file without rows still has a header line.")
        check_space({self.part.parent: total - start}, f"the download of {self.url}")
        self.part_of.write_text(fingerprint(self.metadata))
        if start >= total:
            return
        options: dict[str, Any] = {"range": {"offset": start}}
        if self.metadata["e_tag"]:
            options["if_match"] = f'"{fingerprint(self.metadata)}"'
        self.opened = False
        with (
            full_disk_explained(self.part.parent, f"the body of {self.url}"),
            self.part.open("ab") as file,
            errors_explained(self.url, self.connection),
        ):
            result = obstore.get(self.store, self.key, options=options)
            self.opened = True
            for chunk in result.stream(min_chunk_size=CHUNK):
                file.write(chunk)
            sync_file(file)

    def finish(self) -> None:
        """Verify the complete body, and rename it to its target."""
        size, total = self.size(), self.metadata["size"]
        if size > total:
            self.discard()
        if size != total:
            raise IncompleteBodyError(f"{self.url}: the body has {size:,} bytes instead of {total:,}.")
        self._check_md5()
        self.part.replace(self.target)
        self.part_of.unlink()

    def _check_md5(self) -> None:
        """Compare with an ETag that is an MD5. S3's is one, unless its encryption makes another text of that form.

        Two equal bodies are right, whatever the ETag is.
        """
        etag = fingerprint(self.metadata)
        if not MD5.fullmatch(etag):
            return
        with self.part.open("rb") as file:
            actual = hashlib.file_digest(file, "md5").hexdigest()
        if actual in (etag, self._compared):
            return
        self._compared = actual
        self.discard()
        raise ChecksumError(f"{self.url}: the MD5 of the body is {actual}, and its ETag is {etag}.")
