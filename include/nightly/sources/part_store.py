"""The parts that earlier nights have fetched: <downloads>/<model>/parts/<key>.json and <downloads>/<model>/bodies/.

A body's name is the hash of its content, so a night keeps reading its own body after the part was fetched again.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from nightly.io.atomic import sync_path
from nightly.io.files import hash_file
from nightly.records.base import ContractError
from nightly.records.night import DownloadedFile, utc_now
from nightly.records.part import PartRecord
from nightly.sources.base import Part
from nightly.sources.errors import SourceError

log = logging.getLogger(__name__)


class PartStore:
    """The fetched parts of one model.

    :param source: identifies the source, so that parts of another one are not taken for this one's
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.source = source
        self.bodies = folder / "bodies"

    def get(self, part: Part) -> PartRecord | None:
        """Return what an earlier night has fetched of this part; None if nothing, or its body is gone or damaged."""
        try:
            record = PartRecord.load(self._record(part))
        except FileNotFoundError:
            return None
        except ContractError as error:
            log.warning("%s; the part is fetched anew", error)
            return None
        if not record.sha256:
            return record
        body = self.bodies / record.body
        if not body.exists() or body.stat().st_size != record.bytes or hash_file(body) != record.sha256:
            log.warning("%s, of %s, is gone or damaged; the part is fetched anew", body, part.name)
            return None
        return record

    def put(self, part: Part, fetched: Path, fingerprint: str, run_id: str) -> PartRecord:
        """Take over the file `fetched`, or record that the part has no rows if it does not exist."""
        body, size, sha256 = "", 0, ""
        if fetched.exists():
            sha256, size = hash_file(fetched), fetched.stat().st_size
            if not size:
                raise SourceError(f"{part.name} is empty; a file without rows still has a header line.")
            body = sha256[:32] + part.suffix
            self.bodies.mkdir(parents=True, exist_ok=True)
            fetched.replace(self.bodies / body)
            sync_path(self.bodies)
        record = PartRecord(
            name=part.name,
            source=self.source,
            fingerprint=fingerprint,
            body=body,
            bytes=size,
            sha256=sha256,
            run_id=run_id,
            fetched_at=utc_now(),
        )
        path = self._record(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        record.save(path)
        return record

    def file(self, record: PartRecord) -> DownloadedFile:
        """Return the entry of a part with rows for download.json."""
        return DownloadedFile(
            path=str((self.bodies / record.body).absolute()),
            bytes=record.bytes,
            sha256=record.sha256,
            origin=record.name,
            run_id=record.run_id,
        )

    def retain(self, paths: Iterable[str]) -> list[str]:
        """Remove the bodies that are not in `paths`; return their names. Their records follow when they are read."""
        kept = {Path(path).name for path in paths}
        removed = sorted(body.name for body in self.bodies.glob("*") if body.name not in kept)
        for name in removed:
            (self.bodies / name).unlink(missing_ok=True)
        return removed

    def discard(self, folder: Path) -> None:
        """Remove a run's folder of partial bodies."""
        shutil.rmtree(folder, ignore_errors=True)

    def _record(self, part: Part) -> Path:
        key = hashlib.sha256(f"{self.source}\0{part.name}\0{part.suffix}".encode()).hexdigest()[:32]
        return self.folder / "parts" / f"{key}.json"
