"""Repair a version: replace its damaged files with intact copies.

A copy is identified by its hash alone. The search covers the pipeline's artifacts (the run's own, as long as retention
keeps them), the other versions on disk, and the bucket that the model is released to.
"""

import glob
import tempfile
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path

from nightly.io.files import hash_file
from nightly.io.paths import Paths
from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, NotPublished, ReleaseError
from nightly.release.store import ReleaseStore


def repair(paths: Paths, config: ModelConfig, version: int) -> dict[str, str]:
    """Restore the released files of `version`; return damaged file -> origin of the copy.

    A file that does not belong to the release is deleted; its origin is "". Raises DamagedError, with nothing changed,
    if a file has no intact copy, and another ReleaseError if that is not known or the repair fails.
    """
    store = ReleaseStore(paths.serving, paths.releases, config.name)
    record = store.disk.record(version)
    damage = store.disk.damage(record, store.disk.home(record))
    if not damage:
        return {}
    folders = [paths.pipeline / config.name, store.disk.folder]
    searched = [str(folder) for folder in folders]
    lost = damage.keys() & record.files.keys()
    with ExitStack() as stack:
        copies = {name: copy for name in lost if (copy := _copy(name, record, folders))}
        origins = {name: str(copy) for name, copy in copies.items()}
        if copies.keys() < lost and config.release.gcs:
            missing = lost - copies.keys()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightly-repair-")))
            try:
                address = _download(record, config.release.gcs, folder, missing)
            except NotPublished as error:
                why = error.__cause__ or error
                raise ReleaseError(f"{config.release.gcs} does not say whether it has a copy: {why}") from error
            except DamagedError as error:
                searched.append(f"{config.release.gcs} ({error})")
            else:
                origins |= {name: f"{address}/{name}" for name in missing}
                copies |= {name: folder / name for name in missing}
        if nowhere := sorted(lost - copies.keys()):
            wrong = "; ".join(damage[name] for name in nowhere)
            raise DamagedError(
                f"{config.name} {version} is damaged ({wrong}), and no whole copy is in {' or '.join(searched)}"
            )
        store.replace_files(record, copies)
    return {name: origins.get(name, "") for name in sorted(damage)}


def describe(repaired: dict[str, str]) -> str:
    """Return the result of `repair` as part of a sentence."""
    return "; ".join(f"{name} from {origin}" if origin else f"{name} is gone" for name, origin in repaired.items())


def _copy(name: str, record: ReleaseRecord, folders: Iterable[Path]) -> Path | None:
    """Return a file below the folders with that name and the released bytes, or None."""
    for folder in folders:
        for path in folder.rglob(glob.escape(Path(name).name)):
            if path.as_posix().endswith(f"/{name}") and path.is_file() and hash_file(path) == record.files[name]:
                return path
    return None


def _download(record: ReleaseRecord, base: str, folder: Path, names: Collection[str]) -> str:
    """Download these files of the release from its bucket into `folder`; return the release's address.

    Raises DamagedError if they differ from the record, and NotPublished if the bucket is not reached.
    """
    from nightly.release.google_cloud.gcs import GcsReleases

    bucket = GcsReleases(base, record.model)
    bucket.download(record, folder, names)
    return bucket.uri(record)
