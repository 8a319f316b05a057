"""Fetch the parts of a window that earlier nights have not fetched, or that have changed since."""

import datetime as dt
import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from nightly.io.space import SpaceError, check_space, full_disk_explained
from nightly.records.night import DownloadedFile
from nightly.records.part import PartRecord
from nightly.sources.base import Fetched, FileSource, Part, Source
from nightly.sources.files.listing import tell_missing
from nightly.sources.in_place import read_in_place
from nightly.sources.part_store import PartStore, begin, discard_bodies, partial_folder

log = logging.getLogger(__name__)

Earlier = Mapping[str, PartRecord | None]  # a part's name -> what an earlier night has fetched of it


class Revision(NamedTuple):
    """A part whose rows have changed at the source.

    :ivar since: when the rows were read that are replaced
    :ivar is_gone: it is a file that is not there any more
    """

    name: str
    since: dt.datetime
    is_gone: bool


@dataclass(frozen=True)
class Fetching:
    """The bodies of a window.

    :ivar files: in the order in which they are read
    :ivar records: of the parts, without local files, and without parts that never have rows unless they are `revised`
    :ivar fetched: those that this run has fetched, in this try or in one that failed
    :ivar revised: parts, also local files, whose rows have changed since an earlier night read them
    :ivar removed: files that an earlier night has read, and that are gone
    """

    files: list[DownloadedFile]
    records: list[PartRecord]
    fetched: list[PartRecord]
    revised: list[Revision]
    removed: list[Revision]


def fetch_parts(
    source: Source, store: PartStore, *, run_id: str, settled: dt.timedelta | None, fresh: bool
) -> Fetching:
    """Fetch what is missing, and return the bodies of all parts with rows. Raises SourceError or SpaceError.

    A part that is fetched is kept at once, so a retry goes on with the next one.

    :param settled: a part fetched at least this long after its end is not asked for again
    :param fresh: fetch every part, whatever earlier nights have
    """
    parts = source.parts()
    has_files = isinstance(source, FileSource)
    lost = source.lost if has_files else lambda name: None
    files, local = read_in_place([part for part in parts if part.path is not None], lost, store, run_id, fresh)
    remote = [part for part in parts if part.path is None]
    gone = store.lose(remote, lost, run_id) if has_files else []
    records = _Fetch(source, store, run_id, settled, fresh).records(remote) if remote else {}
    if has_files:
        tell_missing([name for name, record in records.items() if not record.sha256])
    files |= {name: store.file(record) for name, record in records.items() if record.sha256}
    # A source that is one file for all times gets new rows every night: that is no revision.
    whole = len(parts) == 1 and parts[0].end is None and parts[0].rows
    own = [record for record in records.values() if record.run_id == run_id]
    read = [(record.name, record) for record in (*own, *gone)]
    read += [(name, file) for name, file in local.items() if file.run_id == run_id]
    replaced = [Revision(name, new.replaces, has_files and not new.sha256) for name, new in read if new.replaces]
    revised = [revision for revision in replaced if not revision.is_gone and not whole]
    without_rows = {part.name for part in remote if not part.rows} - {record.name for record in revised}
    return Fetching(
        files=[_of(part, files[part.name]) for part in parts if part.name in files],
        records=[record for name, record in records.items() if name not in without_rows],
        fetched=[record for record in own if record.name not in without_rows],
        revised=revised,
        removed=[revision for revision in replaced if revision.is_gone],
    )


def _of(part: Part, file: DownloadedFile) -> DownloadedFile:
    """Return the file with what its part says about it."""
    return file.model_copy(update={"suffix": part.suffix, "partition": part.partition})


@dataclass
class _Fetch:
    """One run's fetch of what is missing."""

    source: Source
    store: PartStore
    run_id: str
    settled: dt.timedelta | None
    fresh: bool

    def __post_init__(self) -> None:
        self.partial = partial_folder(self.store.folder, self.run_id)
        self.began = begin(self.partial)

    def records(self, parts: list[Part]) -> dict[str, PartRecord]:
        """Return part's name -> record, after fetching what is missing."""
        earlier = {part.name: self.store.get(part) for part in parts}
        missing = [part for part in parts if not self._is_current(earlier[part.name], part)]
        log.info("%s parts: %s as fetched before, %s to ask for", len(parts), len(parts) - len(missing), len(missing))
        check_space({self.partial: sum(part.bytes for part in missing)}, f"the download of {len(missing)} parts")
        records, numbers = {part.name: record for part in parts if (record := earlier[part.name])}, count(1)

        def keep(part: Part, fetched: Fetched) -> None:
            number = f"{next(numbers)} of {len(missing)}"
            records[part.name] = self._keep(part, fetched, earlier[part.name], number)

        try:
            self._fetch_each(missing, earlier, keep)
        except SpaceError:
            discard_bodies(self.partial)  # a partial body would keep the disk full
            raise
        shutil.rmtree(self.partial)
        return {part.name: records[part.name] for part in parts}  # as the source lists them, not as they came

    def _is_current(self, record: PartRecord | None, part: Part) -> bool:
        """Return whether the part need not be asked for."""
        if record is None:
            return False
        own = self._is_own(record)
        if self.fresh and not own:
            return False
        if part.fingerprint:
            return part.fingerprint == record.fingerprint
        settled = self.settled is not None and part.end is not None and record.known_at >= part.end + self.settled
        return own or settled

    def _is_own(self, record: PartRecord) -> bool:
        """Return whether a try of this run has fetched the part, and then failed at another one."""
        return record.run_id == self.run_id and record.fetched_at >= self.began

    def _fetch_each(self, parts: list[Part], earlier: Earlier, keep: Callable[[Part, Fetched], None]) -> None:
        """Fetch each part and give it to `keep`. After an error, keep those under way, and raise the error."""
        connections = self.source.connections if isinstance(self.source, FileSource) else 1
        if connections == 1:
            for part in parts:
                keep(part, self._fetch(part, earlier[part.name]))
            return
        failed: list[Exception] = []

        def fetch(part: Part) -> tuple[Part, Fetched | None]:
            try:
                return part, None if failed else self._fetch(part, earlier[part.name])
            except Exception as error:
                failed.append(error)
                return part, None

        with ThreadPool(connections) as pool:  # of daemons: an interrupt does not wait for slow servers
            for part, fetched in pool.imap_unordered(fetch, parts):
                try:
                    if fetched is not None:
                        keep(part, fetched)
                except Exception as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    def _fetch(self, part: Part, earlier: PartRecord | None) -> Fetched:
        target = self._target(part)
        target.unlink(missing_ok=True)  # of a try that was killed; what it can go on with stands beside it
        with full_disk_explained(self.partial, part.name):
            return self.source.fetch(part, target, earlier.fingerprint if earlier and not self.fresh else "")

    def _keep(self, part: Part, fetched: Fetched, earlier: PartRecord | None, number: str) -> PartRecord:
        """Store what was fetched, and return the part's record."""
        if fetched.unchanged and earlier:
            log.info("%s: %s is unchanged", number, part.name)
            return self.store.confirm(part, earlier)
        fingerprint, revised = fetched.fingerprint or part.fingerprint, fetched.revised
        with full_disk_explained(self.partial, part.name):
            record = self.store.put(
                part, self._target(part), fingerprint, self.run_id, earlier=earlier, revised=revised
            )
        content = f"{record.bytes:,} bytes, sha256 {record.sha256[:12]}" if record.sha256 else "no rows"
        log.info("%s: %s: %s", number, part.name, content)
        return record

    def _target(self, part: Part) -> Path:
        return self.partial / (hashlib.sha256(part.name.encode()).hexdigest()[:16] + part.suffix)
