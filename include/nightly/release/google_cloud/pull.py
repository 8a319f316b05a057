"""Update a serving machine's volume to the current version in a bucket. The command is nightly.cli.pull.

A version is downloaded beside the model's folder. Every file's SHA-256 is compared with the record. Then the version
appears in one rename, as TensorFlow Serving needs it. Its predecessor stays. Versions that were rolled back are moved
out of the server's sight once the current version is there. Needs only google-cloud-storage and pydantic.
"""

import logging
import re
import shutil
from pathlib import Path

from nightly.io.atomic import sync_path
from nightly.io.files import copy_files
from nightly.io.locks import locked
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError, ReleaseError
from nightly.release.google_cloud.gcs import GcsReleases
from nightly.release.versions import hash_version

log = logging.getLogger("nightly")


def pull(bucket: GcsReleases, into: Path) -> ReleaseRecord:
    """Bring the current version in `bucket` into the volume `into`, unless it is there; return its record.

    <into>/.pulled/<model>/ has a record of each version that was pulled. Other versions are never touched. Raises
    ReleaseError, with nothing changed that the server sees.
    """
    releases = bucket.releases()
    if not releases:
        raise ReleaseError(f"nothing is released at {bucket.address}")
    current, kept = releases[-1], {record.version for record in releases[-2:]}
    folder, pulled = into / bucket.model, into / ".pulled" / bucket.model
    with locked(pulled / ".lock"):
        present = [int(path.name) for path in folder.glob("*") if re.fullmatch(r"\d+", path.name, re.ASCII)]
        foreign = [version for version in present if not (pulled / f"{version}.json").exists()]
        if foreign:
            raise ReleaseError(
                f"{folder} has {', '.join(map(str, foreign))}, which did not come from {bucket.address}. Pull into a "
                "volume of its own, not into the one that releases are made in."
            )
        if current.version not in present:
            _install(bucket, current, folder, pulled)
        elif hash_version(folder / str(current.version)) != current.files:
            raise DamagedError(
                f"{folder / str(current.version)} is not what was released: delete it, and it is pulled again"
            )
        for version in present:
            if version > current.version or (version < current.version and version not in kept):
                # Moved out of sight in one rename, so that the server never sees half a version.
                aside = pulled / f"removed-{version}"
                log.info("%s takes %s out of %s", bucket.address, version, folder)
                (folder / str(version)).rename(aside)
                sync_path(folder)
        shutil.rmtree(pulled / "work", ignore_errors=True)
        for removed in pulled.glob("removed-*"):
            shutil.rmtree(removed)
        for unfinished in pulled.glob(".*.json.*"):  # the record of a pull that was killed while it wrote it
            unfinished.unlink()
        for pulled_record in pulled.glob("[0-9]*.json"):
            if not (folder / pulled_record.stem).exists():
                pulled_record.unlink()
    return current


def _install(bucket: GcsReleases, record: ReleaseRecord, folder: Path, pulled: Path) -> None:
    """Download, verify, copy and fsync, then rename.

    An empty model folder would unload the model, so the folder appears in one rename too, with its first version.
    """
    log.info("pulling %s: %s files", bucket.uri(record), len(record.files))
    download, staging = pulled / "work/download", pulled / "work/staging"
    shutil.rmtree(pulled / "work", ignore_errors=True)  # left by an interrupted pull
    bucket.download(record, download)
    copy_files(download, staging / str(record.version), staging)
    if hash_version(staging / str(record.version)) != record.files:
        raise DamagedError(f"the copy of {bucket.uri(record)} in {staging} differs: is the disk in order? Retry.")
    record.save(pulled / f"{record.version}.json")
    if folder.exists():
        (staging / str(record.version)).rename(folder / str(record.version))
    else:
        staging.rename(folder)
    sync_path(folder)
    sync_path(folder.parent)
