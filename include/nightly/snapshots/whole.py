"""Whether a snapshot on disk still is what its manifest says."""

from pathlib import Path

from nightly.io.files import hash_file
from nightly.records.base import ContractError
from nightly.records.snapshot import SnapshotFile, SnapshotManifest
from nightly.snapshots.errors import DamagedSnapshotError

MANIFEST = "manifest.json"
REMEDY = (
    "Clear `snapshot` with what is downstream (`download`, where the night's bodies are gone), or run the night again: "
    "it is made anew."
)


def read_manifest(folder: Path) -> SnapshotManifest:
    """Return the manifest in `folder`. Raises DamagedSnapshotError where there is none, or one of something else."""
    try:
        manifest = SnapshotManifest.load(folder / MANIFEST)
    except (OSError, ContractError) as error:
        gone = isinstance(error, FileNotFoundError)
        what = f"its {MANIFEST} is missing" if folder.is_dir() and gone else "it is gone" if gone else str(error)
        raise _damaged(folder, [what]) from error
    if manifest.snapshot_id != folder.name:
        raise _damaged(folder, [f"its {MANIFEST} is of {manifest.snapshot_id}"])
    return manifest


def verified(folder: Path, *, content: bool = True) -> SnapshotManifest:
    """Return the manifest of the snapshot in `folder` when each file is as it says.

    :param content: compare hashes; otherwise the files' names and sizes only
    :raises DamagedSnapshotError: with every difference
    """
    manifest = read_manifest(folder)
    expected = {file.name: file for file in manifest.files}
    present = {path.name for path in folder.iterdir() if path.name != MANIFEST}
    wrong = [f"{name} is missing" for name in expected.keys() - present]
    wrong += [f"{name} does not belong to it" for name in present - expected.keys()]
    differences = {name: _difference(folder / name, expected[name], content) for name in expected.keys() & present}
    wrong += [f"{name} {difference}" for name, difference in differences.items() if difference]
    if wrong:
        raise _damaged(folder, sorted(wrong))
    return manifest


def _difference(path: Path, expected: SnapshotFile, content: bool) -> str:
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"has {size:,} bytes instead of {expected.bytes:,}"
        return "has changed" if content and hash_file(path) != expected.sha256 else ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _damaged(folder: Path, wrong: list[str]) -> DamagedSnapshotError:
    return DamagedSnapshotError(f"the snapshot {folder} is damaged: {'; '.join(wrong)}. {REMEDY}")
