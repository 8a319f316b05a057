"""Repair the files of a version: whole copies are put in the place of damaged ones.

A copy is known by its hash alone. It is looked for among the pipeline's artifacts (the run's own, as long as retention
keeps them), in the other versions on disk, and in the bucket that the model is released to.
"""

import glob
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from nightly.io.files import hash_file
from nightly.io.paths import Paths
from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError
from nightly.release.store import ReleaseStore


def repair(paths: Paths, config: ModelConfig, version: int) -> dict[str, str]:
    """Make the files of `version` what was released; returns each damaged one with where its bytes are from.

    A file that is not of the release goes, and has "" for that. Raises DamagedError, with nothing changed, where a file
    has no whole copy.
    """
    store = ReleaseStore(paths.serving, paths.releases, config.name)
    record = store.disk.record(version)
    damage = store.disk.damage(record, store.disk.find(version))
    if not damage:
        return {}
    folders = [paths.pipeline / config.name, store.disk.folder]
    looked_in = [str(folder) for folder in folders]
    lost = damage.keys() & record.files.keys()
    with ExitStack() as stack:
        copies = {name: copy for name in lost if (copy := _copy(name, record, folders))}
        origins = {name: str(copy) for name, copy in copies.items()}
        if copies.keys() < lost and config.release.gcs:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightly-repair-")))
            try:
                address = _download(record, config.release.gcs, folder)
            except ReleaseError as error:
                looked_in.append(f"{config.release.gcs} ({error})")
            else:
                origins |= {name: f"{address}/{name}" for name in lost - copies.keys()}
                copies |= {name: folder / name for name in lost - copies.keys()}
        if missing := sorted(lost - copies.keys()):
            wrong = "; ".join(damage[name] for name in missing)
            raise DamagedError(
                f"{config.name} {version} is damaged ({wrong}), and no whole copy is in {' or '.join(looked_in)}"
            )
        store.replace_files(record, copies)
    return {name: origins.get(name, "") for name in sorted(damage)}


def describe(repaired: dict[str, str]) -> str:
    """What `repair` has done, as part of a sentence."""
    words = [f"{name} from {origin}" if origin else f"{name} is gone" for name, origin in repaired.items()]
    return "; ".join(words)


def _copy(name: str, record: ReleaseRecord, folders: Iterable[Path]) -> Path | None:
    """A file of that name in the folders, however deep, that has the bytes which were released."""
    for folder in folders:
        for path in folder.rglob(glob.escape(Path(name).name)):
            if path.as_posix().endswith(f"/{name}") and path.is_file() and hash_file(path) == record.files[name]:
                return path
    return None


def _download(record: ReleaseRecord, base: str, folder: Path) -> str:
    """The release's files from its bucket into `folder`; returns their address. Raises ReleaseError."""
    from nightly.release.google_cloud.gcs import GcsReleases

    bucket = GcsReleases(base, record.model)
    bucket.download(record, folder)
    return bucket.uri(record)
