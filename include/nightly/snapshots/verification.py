"""Verify that a snapshot still matches its manifest: on this host, or in the bucket that it is fetched from."""

import logging
from pathlib import Path

from nightly.io.files import hash_file
from nightly.records.base import ContractError
from nightly.records.snapshot import SnapshotFile, SnapshotManifest
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.state import current, fetch
from nightly.state.errors import DamagedStateError

log = logging.getLogger("nightly")

REMEDY = (
    "Clear `snapshot` and its downstream tasks (from `download`, if the night's bodies are gone), or run the night "
    "again: this makes the snapshot again."
)


def read_manifest(folder: Path) -> SnapshotManifest:
    """Return the manifest in `folder`. Raises DamagedSnapshotError if it is missing or of another snapshot."""
    try:
        manifest = SnapshotManifest.load(folder / SnapshotManifest.FILE)
    except (OSError, ContractError) as error:
        missing = isinstance(error, FileNotFoundError)
        problem = str(error)
        if missing:
            problem = f"its {SnapshotManifest.FILE} is missing" if folder.is_dir() else "it is gone"
        raise _damaged(folder, [problem]) from error
    if manifest.snapshot_id != folder.name:
        raise _damaged(folder, [f"its {SnapshotManifest.FILE} is of {manifest.snapshot_id}"])
    return manifest


def verify_snapshot(folder: Path, *, content: bool = True) -> SnapshotManifest:
    """Return the manifest of the snapshot in `folder` after comparing each file with it.

    :param content: fetch the files, and compare hashes; otherwise only the names and sizes of those on this host
    :raises DamagedSnapshotError: lists every difference
    """
    if not content:
        return _compare(folder, content=False)
    try:
        fetch(folder)
        try:
            return _compare(folder, content=True)
        except DamagedSnapshotError as error:
            if not current().restore(folder):
                raise
            log.warning("this host's copy was damaged, and is fetched again: %s", error)
        return _compare(folder, content=True)
    except DamagedStateError as error:
        raise _damaged(folder, [f"in the bucket, {error}"]) from error


def _compare(folder: Path, *, content: bool) -> SnapshotManifest:
    manifest = read_manifest(folder)
    expected = {file.name: file for file in manifest.files}
    present = {path.name for path in folder.iterdir() if path.name != SnapshotManifest.FILE}
    # Of a snapshot in a bucket, a host may have the manifest alone.
    missing = expected.keys() - present if content or present or not current().shared else set()
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{name} does not belong to it" for name in present - expected.keys()]
    differences = {name: _difference(folder / name, expected[name], content) for name in expected.keys() & present}
    problems += [f"{name} {difference}" for name, difference in differences.items() if difference]
    if problems:
        raise _damaged(folder, sorted(problems))
    return manifest


def _difference(path: Path, expected: SnapshotFile, content: bool) -> str:
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"has {size:,} bytes instead of {expected.bytes:,}"
        return "has changed" if content and hash_file(path) != expected.sha256 else ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _damaged(folder: Path, problems: list[str]) -> DamagedSnapshotError:
    return DamagedSnapshotError(f"the snapshot {folder} is damaged: {'; '.join(problems)}. {REMEDY}")
