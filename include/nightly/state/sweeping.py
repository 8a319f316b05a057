"""What keeps the sweep of blobs and a publication beside it apart.

A publication uploads no blob that the bucket has. A sweep might delete such a blob before the manifest is created. So
each sweep counts itself in one object while it deletes. A publication reads it before its first blob and after its
manifest: if a sweep has deleted in between, it looks for all its blobs once more. A sweep marks the manifests after it
has counted itself, so a blob is either marked or uploaded again.
"""

import contextlib
import json
import time
from dataclasses import asdict, dataclass, replace

from nightly.state.errors import DamagedStateError, PreconditionFailedError
from nightly.state.objects import Objects

KEY = "sweep.json"
SWEEP_SECONDS = 600  # a sweep deletes nothing after this time; one that was killed is waited for as long
POLL_SECONDS = 1


@dataclass(frozen=True)
class Count:
    """How many sweeps there have been, and whether the last deletes blobs now.

    :ivar token: of the last sweep, which tells whose count this is
    """

    number: int = 0
    running: bool = False
    token: str = ""

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_count(objects: Objects) -> tuple[Count, str]:
    """Return the count and its etag, "" if there has been no sweep."""
    existing = objects.get(KEY)
    if existing is None:
        return Count(), ""
    try:
        return Count(**json.loads(existing.data)), existing.etag
    except (ValueError, TypeError):
        raise DamagedStateError(f"{objects.address}/{KEY} is damaged; delete it.") from None


def write_count(objects: Objects, count: Count, etag: str) -> str:
    """Replace the version `etag` of the count, or create it; return the new etag.

    Raises PreconditionFailedError if another host has written it.
    """
    try:
        return objects.swap(KEY, count.dump(), etag) if etag else objects.create(KEY, count.dump())
    except PreconditionFailedError:
        current, etag = read_count(objects)
        if current != count:  # else this host has written it, and the answer was lost
            raise
        return etag


class Watch:
    """Whether a sweep has deleted blobs since this was made, or since the last call of `has_swept`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        count, _ = read_count(objects)
        self._number = count.number - count.running

    def has_swept(self) -> bool:
        """Wait while a sweep deletes; return whether one has, since the last look."""
        count, etag = read_count(self._objects)
        number, end = count.number, time.monotonic() + SWEEP_SECONDS
        while count.running and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            count, etag = read_count(self._objects)
            if count.number != number:  # another sweep
                number, end = count.number, time.monotonic() + SWEEP_SECONDS
        if count.running:  # it was killed
            with contextlib.suppress(PreconditionFailedError):
                write_count(self._objects, replace(count, running=False), etag)
        before, self._number = self._number, count.number
        return count.number != before
