"""Delete the blobs that no manifest names any more, and what processes that died have left.

See nightly.state.sweeping for what publishes beside it.
"""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from nightly.state.errors import DamagedStateError, PreconditionFailedError, StateError
from nightly.state.manifests import Manifest, blob_key, name_of_key
from nightly.state.names import RUNNING
from nightly.state.objects import Entry, Objects
from nightly.state.records import record_key
from nightly.state.sweeping import KEY, SWEEP_SECONDS, Count, read_count, write_count

CONNECTIONS = 16


@dataclass(frozen=True)
class Swept:
    """What a sweep deleted, and how many unreferenced blobs are too young for it.

    :ivar abandoned: manifests of versions and parts of jobs, which processes that died have left
    """

    abandoned: int
    blobs: int
    bytes: int
    young: int


def sweep(objects: Objects, grace: timedelta) -> Swept:
    """Delete the blobs that are older than `grace` and that no manifest names, and what was abandoned before that.

    Raises DamagedStateError, and deletes nothing, if a manifest cannot be read or the bucket's lists are not true.
    Raises StateError while another sweep runs.
    """
    now = probe_lists(objects)
    unmarked = _unmarked(objects)
    old = {entry.key: entry for entry in unmarked if now - entry.modified >= grace}
    young = len(unmarked) - len(old)
    abandoned = [entry for entry in _abandoned(objects) if now - entry.modified >= grace]
    for entry in abandoned:
        objects.delete(entry.key)
    if not old:
        return Swept(len(abandoned), 0, 0, young)
    count, etag = _begin(objects, now)
    end = time.monotonic() + SWEEP_SECONDS / 2  # a delete may be tried for some minutes more
    deleted: list[Entry] = []

    def delete(entry: Entry) -> None:
        if time.monotonic() < end:
            objects.delete(entry.key)
            deleted.append(entry)

    try:
        probe_lists(objects)
        again = {entry.key for entry in _unmarked(objects)}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(delete, (entry for key, entry in old.items() if key in again)))
    finally:
        write_count(objects, replace(count, running=False), etag)
    return Swept(len(abandoned), len(deleted), sum(entry.bytes for entry in deleted), young)


def manifests(objects: Objects) -> dict[str, Manifest]:
    """Return key -> manifest of all content. Raises DamagedStateError."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        keys = [entry.key for entry in objects.list("manifests") if entry.key.endswith(".json")]
        stored = zip(keys, pool.map(objects.get, keys), strict=True)
        return {key: Manifest.parse(each.data, key) for key, each in stored if each is not None}


def probe_lists(objects: Objects) -> datetime:
    """Return the store's time. Raises DamagedStateError if a list lacks a new object, or has a deleted one."""
    key = f"manifests/probe-{uuid.uuid4().hex}"
    objects.put(key, b"Lists have this object, or they are not true.")
    try:
        listed = {entry.key: entry for entry in objects.list("manifests")}
    finally:
        objects.delete(key)
    if key not in listed or any(entry.key == key for entry in objects.list("manifests")):
        raise DamagedStateError(
            f"The lists of {objects.address} do not have what was just written, or have what was just deleted; use a "
            "store whose lists are consistent."
        )
    return listed[key].modified


def _unmarked(objects: Objects) -> list[Entry]:
    """Return the blobs that no manifest names. Blobs are listed first: what is published meanwhile is marked."""
    blobs = objects.list("blobs")
    marked = {blob_key(sha256) for manifest in manifests(objects).values() for sha256 in manifest.blobs}
    return [entry for entry in blobs if entry.key not in marked]


def _abandoned(objects: Objects) -> list[Entry]:
    """Return the manifests of versions that no record names, and the parts of jobs whose node does not run.

    The records are listed last. The record of a version follows its manifest at once. A running node has a mark from
    before its first part until after its last. The next night removes the mark of a dead one.
    """
    versions, parts = objects.list("manifests/serving"), objects.list("parts")
    records = {entry.key for top in ("releases", "nights") for entry in objects.list(record_key(top))}
    running = {(key.split("/")[2], Path(key).stem) for key in records if key.endswith(RUNNING)}
    return [
        *(entry for entry in versions if _is_version(entry) and _record_of(entry) not in records),
        *(entry for entry in parts if tuple(entry.key.split("/")[2:4]) not in running),
    ]


def _is_version(entry: Entry) -> bool:
    return Path(entry.key).stem.isdecimal()  # others are versions that were moved aside in a folder


def _record_of(entry: Entry) -> str:
    """Return the key of the record of a version, from the entry of its manifest."""
    return record_key(f"releases/{name_of_key(entry.key).removeprefix('serving/')}.json")


def _begin(objects: Objects, now: datetime) -> tuple[Count, str]:
    """Count this sweep, and return the count and its etag."""
    count, etag = read_count(objects)
    last = objects.head(KEY)
    if count.running and last is not None and now - last.modified < timedelta(seconds=SWEEP_SECONDS):
        minutes = SWEEP_SECONDS // 60
        raise StateError(f"Another host sweeps {objects.address} now; try again in {minutes} minutes.")
    count = Count(count.number + 1, running=True, token=uuid.uuid4().hex)
    try:
        return count, write_count(objects, count, etag)
    except PreconditionFailedError:
        raise StateError(f"Another host has begun to sweep {objects.address}.") from None
