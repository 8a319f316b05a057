"""Local files are read where they are. Those that are as an earlier night hashed them are not hashed again."""

import os
from pathlib import Path

from nightly.io.files import is_still, stamp
from nightly.records.base import ContractError
from nightly.records.night import DownloadedFile, utc_now
from nightly.records.part import LocalFile, LocalFiles
from nightly.sources.base import Part
from nightly.sources.files import described
from nightly.sources.part_store import PartStore

NAME = "local_files.json"


def read_in_place(
    parts: list[Part], store: PartStore, run_id: str, fresh: bool
) -> dict[str, tuple[DownloadedFile, LocalFile]]:
    """Return part's name -> file with its hash, and what is known of it. Raises SourceError.

    :param fresh: hash each, whatever earlier nights know
    """
    path = store.folder / NAME
    known = _load(path).files
    files = {part.name: _file(part, known.get(str(part.path)), run_id, fresh) for part in parts}
    seen = known | {file.path: local for file, local in files.values()}
    # A backfill reads other files. Unlike Path.exists, this takes a file that may not be looked at for gone.
    seen = {name: local for name, local in seen.items() if os.path.exists(name)}  # noqa: PTH110
    if seen != known:
        LocalFiles(files=seen).save(path)
    return files


def _file(part: Part, known: LocalFile | None, run_id: str, fresh: bool) -> tuple[DownloadedFile, LocalFile]:
    path = part.path
    assert path is not None
    before = stamp(path) if path.exists() and is_still(path) else ""
    if known and not fresh and known.stamp and known.stamp == before:
        return DownloadedFile(path=str(path), bytes=known.bytes, sha256=known.sha256, origin=part.name), known
    file = described(path)
    kept = before if before == stamp(path) else ""  # a file that is being written has no stamp
    if known and known.sha256 == file.sha256:
        return file, known.model_copy(update={"stamp": kept})
    replaced = known.hashed_at if known else None
    if replaced and part.end and replaced < part.end:
        replaced = None  # its day was not over yet
    return file, LocalFile(
        bytes=file.bytes, sha256=file.sha256, stamp=kept, run_id=run_id, hashed_at=utc_now(), replaces=replaced
    )


def _load(path: Path) -> LocalFiles:
    try:
        return LocalFiles.load(path)
    except (FileNotFoundError, ContractError):
        return LocalFiles()
