"""Local files are read where they are. Those that are as an earlier night hashed them are not hashed again."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

from nightly.io.files import is_still, stamp
from nightly.records.base import ContractError
from nightly.records.night import DownloadedFile, utc_now
from nightly.records.part import LocalFile, LocalFiles
from nightly.sources.base import Part
from nightly.sources.files import described
from nightly.sources.part_store import EMPTY_KEPT, PartStore

NAME = "local_files.json"


def read_in_place(
    parts: list[Part], lost: Callable[[str], Part | None], store: PartStore, run_id: str, fresh: bool
) -> tuple[dict[str, DownloadedFile], dict[str, LocalFile]]:
    """Return part's name -> file with its hash, and name -> what is known of it, also of files that are gone.

    Raises SourceError.

    :param lost: see FileSource
    :param fresh: hash each, whatever earlier nights know
    """
    path = store.folder / NAME
    known = _load(path).files
    files = {part.name: _file(part, known.get(str(part.path)), run_id, fresh) for part in parts}
    is_kept = any(known[file.path].sha256 for file, _ in files.values() if file.path in known)
    gone = {}
    for name, local in known.items():
        # Unlike Path.exists, this takes a file that may not be looked at for gone.
        if not os.path.exists(name) and (part := lost(name)):  # noqa: PTH110
            gone[name] = _gone(part, local, run_id, is_kept) if local.sha256 else local
    # A backfill reads other files.
    kept = {name: local for name, local in known.items() if os.path.exists(name) or _is_remembered(local)}  # noqa: PTH110
    seen = kept | gone | {file.path: local for file, local in files.values()}
    if seen != known:
        LocalFiles(files=seen).save(path)
    return {name: file for name, (file, _) in files.items()}, gone | {name: local for name, (_, local) in files.items()}


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
    return file, LocalFile(
        bytes=file.bytes,
        sha256=file.sha256,
        stamp=kept,
        run_id=run_id,
        hashed_at=utc_now(),
        replaces=_replaced(part, known),
    )


def _gone(part: Part, known: LocalFile, run_id: str, is_kept: bool) -> LocalFile:
    """Return what is known from now on of a file that is not there any more.

    :param is_kept: the source still has a file that earlier nights have read. Without dates and without such a file, it
        is written anew as a whole, and a file with another name replaces this one
    """
    replaces = _replaced(part, known) if part.end or is_kept else None
    return LocalFile(bytes=0, sha256="", stamp="", run_id=run_id, hashed_at=utc_now(), replaces=replaces)


def _replaced(part: Part, known: LocalFile | None) -> dt.datetime | None:
    """Return when the content was read that is another now; None if its day was not over then."""
    read = known.hashed_at if known else None
    return None if read and part.end and read < part.end else read


def _is_remembered(local: LocalFile) -> bool:
    """Return whether a file that is gone may still be missed by a night of another window."""
    return local.hashed_at is not None and utc_now() - local.hashed_at < EMPTY_KEPT


def _load(path: Path) -> LocalFiles:
    try:
        return LocalFiles.load(path)
    except (FileNotFoundError, ContractError):
        return LocalFiles()
