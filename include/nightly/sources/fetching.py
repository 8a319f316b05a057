"""Fetch the parts of a window that earlier nights have not fetched, or that have changed since."""

import datetime as dt
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from nightly.records.night import DownloadedFile
from nightly.records.part import PartRecord
from nightly.sources.base import Part, Source
from nightly.sources.files import described
from nightly.sources.part_store import PartStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetching:
    """The bodies of a window.

    :ivar reused: how many parts are as an earlier night fetched them
    :ivar revised: the names of the parts whose rows have changed since an earlier night fetched them
    """

    files: list[DownloadedFile]
    reused: int
    revised: list[str]


def fetch_parts(
    source: Source, store: PartStore, *, run_id: str, partial: Path, settled: dt.timedelta | None, fresh: bool
) -> Fetching:
    """Fetch what is missing, and return the bodies of all parts with rows. Raises SourceError.

    A part that is fetched is kept at once, so a retry goes on with the next one.

    :param partial: the run's folder for bodies that are not complete yet
    :param settled: a part fetched at least this long after its end is not asked for again
    :param fresh: fetch every part, whatever earlier nights have
    """
    files, reused, revised = [], 0, []
    for part in source.parts():
        if part.path is not None:
            files.append(_of(part, described(part.path)))
            continue
        earlier = store.get(part)
        # A try that failed in the middle has kept the parts that it fetched, and they are fresh.
        usable = earlier if earlier and (not fresh or earlier.run_id == run_id) else None
        if usable and _is_current(usable, part, settled):
            record = usable
        else:
            target = partial / (hashlib.sha256(part.name.encode()).hexdigest()[:16] + part.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched = source.fetch(part, target, usable.fingerprint if usable else "")
            if fetched.unchanged and usable:
                record = usable
            else:
                record = store.put(part, target, fetched.fingerprint or part.fingerprint, run_id)
                log.info("%s: %s bytes, sha256 %s", part.name, f"{record.bytes:,}", record.sha256[:12] or "no rows")
                if earlier and earlier.sha256 != record.sha256:
                    revised.append(part.name)
                    log.warning("%s has changed at the source since run %s fetched it", part.name, earlier.run_id)
        reused += record.run_id != run_id
        if record.sha256:
            files.append(_of(part, store.file(record)))
    store.discard(partial)
    return Fetching(files, reused, revised)


def _of(part: Part, file: DownloadedFile) -> DownloadedFile:
    """Return the file with what its part says about it."""
    return file.model_copy(update={"suffix": part.suffix, "partition": part.partition})


def _is_current(record: PartRecord, part: Part, settled: dt.timedelta | None) -> bool:
    if part.fingerprint:
        return part.fingerprint == record.fingerprint
    return settled is not None and part.end is not None and record.fetched_at >= part.end + settled
