"""The parts that earlier nights have fetched, in the model's folder of downloads:

    bodies/<hash>.<suffix>    a body; its name is the hash of its content, so a night keeps reading its own body after
                              the part was fetched again
    parts/<key>.json          what is known of a part (contract PartRecord), with the name of its body
    partial/<run>/            bodies that a run has not received completely

In a session with a bucket, the folder is the session's own and only `parts` is in it: `bodies` is a link to the folder
of bodies of this host, which has `partial` beside it.

Runs of a model may fetch at the same time. Each holds the lock in shared mode (`in_use`) until its download.json names
its bodies; old bodies are removed only when no run holds it.

Nothing here is synced: it is a cache. What a power cut damages has another size or hash, and is fetched again.
"""

import contextlib
import datetime as dt
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.files import hash_file, stamp
from nightly.records.base import ContractError
from nightly.records.night import DownloadedFile, utc_now
from nightly.records.part import PartRecord
from nightly.sources.base import Part
from nightly.sources.errors import SourceError
from nightly.state import current, fetch, publish, remove
from nightly.state.errors import DamagedStateError

BODIES, PARTS, PARTIAL, LOCK = "bodies", "parts", "partial", ".lock"
EMPTY_KEPT = dt.timedelta(days=400)  # how long a part without rows is remembered
BEGAN = "began"  # a file in a run's folder of partial bodies, with the time of its first try

log = logging.getLogger(__name__)


class PartStore:
    """The fetched parts of one source of a model.

    :param folder: the model's downloads
    :param source: identifies the source, so that parts of another one are not taken for this one's
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.source = source
        self.bodies = bodies_folder(folder)

    def get(self, part: Part) -> PartRecord | None:
        """Return what an earlier night has fetched of this part; None if nothing, or its body is gone or damaged.

        A body with its old stamp (size, times, inode) is not hashed: the snapshot step hashes it as it reads it. On
        another host than the one that received it, it has another stamp.
        """
        try:
            record = PartRecord.load(self._record(part))
        except FileNotFoundError:
            return None
        except ContractError as error:
            log.warning("%s; the part is fetched anew", error)
            return None
        body = self.bodies / record.body
        if not record.sha256 or (body.exists() and record.stamp and record.stamp == stamp(body)):
            return record
        if not self._has(body, record):
            log.warning("%s, of %s, is gone or damaged; the part is fetched anew", body, part.name)
            remove(body)
            return None
        if current().shared:  # a stamp that each host replaces would be of no use
            return record
        restamped = record.model_copy(update={"stamp": stamp(body)})
        self._save(part, restamped)
        return restamped

    def put(
        self,
        part: Part,
        fetched: Path | None,
        fingerprint: str,
        run_id: str,
        *,
        earlier: PartRecord | None = None,
        revised: bool = False,
    ) -> PartRecord:
        """Take over the file `fetched`, or record that the part has no rows if there is none.

        :param earlier: what was known of the part
        :param revised: the source tells that rows have changed since; otherwise the body's hash tells
        """
        body, size, sha256 = "", 0, ""
        if fetched and fetched.exists():
            sha256, size = hash_file(fetched), fetched.stat().st_size
            if not size:
                raise SourceError(f"{part.name} is empty; a file without rows still has a header line.")
            body = sha256[:32] + part.suffix
            self.bodies.mkdir(parents=True, exist_ok=True)
            fetched.replace(self.bodies / body)
            publish(self.bodies / body)
        if earlier and earlier.sha256 != sha256:
            revised = revised or part.end is None or earlier.fetched_at >= part.end
        record = PartRecord(
            name=part.name,
            source=self.source,
            fingerprint=fingerprint,
            body=body,
            bytes=size,
            sha256=sha256,
            stamp=stamp(self.bodies / body) if body else "",
            run_id=run_id,
            fetched_at=utc_now(),
            replaces=earlier.fetched_at if earlier and revised else None,
        )
        self._save(part, record)
        return record

    def confirm(self, part: Part, record: PartRecord) -> PartRecord:
        """Record that the source has just answered that the part has not changed."""
        confirmed = record.model_copy(update={"confirmed_at": utc_now()})
        self._save(part, confirmed)
        return confirmed

    def lose(self, parts: list[Part], lost: Callable[[str], Part | None], run_id: str) -> list[PartRecord]:
        """Record that files which earlier nights have read are gone; return those that no earlier run has missed.

        Files without a date that were all replaced by others are not among them: such a source is written anew.

        :param parts: all parts that the window has
        :param lost: see FileSource
        """
        present = {self._record(part) for part in parts}
        stored = set((self.folder / PARTS).glob("*.json"))
        is_kept = any(
            record.sha256 and (record.run_id != run_id or record.replaces) for record in _loaded(stored & present)
        )
        gone = []
        for record in _loaded(stored - present):
            part = lost(record.name) if record.source == self.source else None
            if part and record.sha256:
                record = self.put(part, None, "", run_id, earlier=record if part.end or is_kept else None)
            if part and record.run_id == run_id and record.replaces:
                gone.append(record)
        return gone

    def file(self, record: PartRecord) -> DownloadedFile:
        """Return the entry of a part with rows for download.json."""
        return DownloadedFile(
            path=str((self.bodies / record.body).absolute()),
            bytes=record.bytes,
            sha256=record.sha256,
            origin=record.name,
            run_id=record.run_id,
        )

    def _has(self, body: Path, record: PartRecord) -> bool:
        """Return whether the body is whole, on this host or after a fetch from the bucket."""
        with contextlib.suppress(DamagedStateError):
            fetch(body)
            return _is(body, record) or (current().restore(body) and _is(body, record))
        return False

    def _save(self, part: Part, record: PartRecord) -> None:
        """Write and publish a part's record, so that a try on another host goes on with the next part."""
        path = self._record(part)
        write_atomically(path, record.model_dump_json().encode(), durable=False)
        publish(path)

    def _record(self, part: Part) -> Path:
        key = hashlib.sha256(f"{self.source}\0{part.name}\0{part.suffix}".encode()).hexdigest()[:32]
        return self.folder / PARTS / f"{key}.json"


def _loaded(paths: Iterable[Path]) -> Iterator[PartRecord]:
    for path in sorted(paths):
        with contextlib.suppress(ContractError):
            yield PartRecord.load(path)


def _is(body: Path, record: PartRecord) -> bool:
    return body.exists() and body.stat().st_size == record.bytes and hash_file(body) == record.sha256


def bodies_folder(folder: Path) -> Path:
    """Return the folder of a model's bodies on this host; `folder` is the model's downloads, maybe of a session."""
    bodies = folder / BODIES
    return folder / bodies.readlink() if bodies.is_symlink() else bodies


def in_use(folder: Path) -> AbstractContextManager[None]:
    """Return a context manager that keeps all bodies of a model, on every host."""
    return current().locked(bodies_folder(folder).parent / LOCK, shared=True)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Return a context manager that lets no run, on any host, begin a download.

    Entering it raises BlockingIOError if one is at it.
    """
    return current().locked(bodies_folder(folder).parent / LOCK, wait=False)


def begin(partial: Path) -> dt.datetime:
    """Return when the run's download began: now, or when a try began that was killed or has failed."""
    marker = partial / BEGAN
    if not marker.exists():
        write_atomically(marker, utc_now().isoformat().encode())
    return dt.datetime.fromisoformat(marker.read_text())


def discard_bodies(partial: Path) -> None:
    """Remove what the run has not received completely."""
    for path in partial.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != BEGAN:
            path.unlink(missing_ok=True)


def partial_folder(folder: Path, run_id: str) -> Path:
    """Return the folder for the bodies that a run has not received completely."""
    return bodies_folder(folder).parent / PARTIAL / hashlib.sha256(run_id.encode()).hexdigest()[:16]


def retain(folder: Path, bodies: Iterable[str], unfinished: Iterable[str]) -> list[str]:
    """Remove from a model's downloads what no night needs; return the removed names. Call it `alone`.

    :param bodies: paths of the bodies to keep. Earlier versions had a folder of bodies for each run
    :param unfinished: runs whose partial bodies stay
    """
    kept = [Path(path) for path in bodies]
    names = {path.name for path in kept}
    runs = {path.parent.name for path in kept}
    partial = {partial_folder(folder, run_id) for run_id in unfinished}
    received = bodies_folder(folder)
    old = [received / name for name in current().names(received) if name not in names]
    for body in old:
        remove(body)
    unused = [path for path in (received.parent / PARTIAL).glob("*") if path not in partial]
    unused += [path for path in received.parent.glob("*/") if path.name not in {BODIES, PARTS, PARTIAL, *runs}]
    for path in unused:
        shutil.rmtree(path, ignore_errors=True)
    old += unused
    _forget_parts(folder / PARTS, names)
    return sorted(path.name for path in old)


def _forget_parts(folder: Path, bodies: set[str]) -> None:
    """Remove the records of parts whose body is not in `bodies`, and old ones of parts without rows."""
    for path in folder.glob("*.json"):
        try:
            record = PartRecord.load(path)
        except ContractError:
            path.unlink()
            continue
        if record.body not in bodies if record.body else record.known_at < utc_now() - EMPTY_KEPT:
            path.unlink()
