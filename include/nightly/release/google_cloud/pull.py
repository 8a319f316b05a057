"""Bring a serving machine's volume to what is current in a bucket. The command is nightly.cli.pull.

A version is downloaded beside the model's folder, every file's SHA-256 is compared with what was released, and then it
appears in one rename, as TensorFlow Serving needs it. The one before it stays. What was rolled back is moved out of
the server's sight, after the version gone back to is there. Nothing but google-cloud-storage and pydantic is needed.
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
    """Make the volume `into` serve what is current in `bucket`; gives its record. Does nothing when it does already.

    What this did is known by the records in <into>/.pulled/<model>/; what another put there is never touched. Raises
    ReleaseError, with nothing changed that the server sees.
    """
    releases = bucket.releases()
    if not releases:
        raise ReleaseError(f"nothing is released at {bucket.address}")
    current, kept = releases[-1], {record.version for record in releases[-2:]}
    folder, pulled = into / bucket.model, into / ".pulled" / bucket.model
    with locked(pulled / ".lock"):
        there = [int(path.name) for path in folder.glob("*") if re.fullmatch(r"\d+", path.name, re.ASCII)]
        foreign = [version for version in there if not (pulled / f"{version}.json").exists()]
        if foreign:
            raise ReleaseError(
                f"{folder} has {', '.join(map(str, foreign))}, which did not come from {bucket.address}. Pull into a "
                "volume of its own, not into the one that releases are made in."
            )
        if current.version not in there:
            _bring(bucket, current, folder, pulled)
        elif hash_version(folder / str(current.version)) != current.files:
            raise DamagedError(
                f"{folder / str(current.version)} is not what was released: delete it, and it is pulled again"
            )
        for version in there:
            if version > current.version or (version < current.version and version not in kept):
                # First out of sight in one rename: the server must not find half of it.
                aside = pulled / f"removed-{version}"
                log.info("%s takes %s out of %s", bucket.address, version, folder)
                (folder / str(version)).rename(aside)
                sync_path(folder)
        shutil.rmtree(pulled / "work", ignore_errors=True)
        for leftover in pulled.glob("removed-*"):
            shutil.rmtree(leftover)
            (pulled / f"{leftover.name.removeprefix('removed-')}.json").unlink(missing_ok=True)
    return current


def _bring(bucket: GcsReleases, record: ReleaseRecord, folder: Path, pulled: Path) -> None:
    """Download, verify, copy to disk for good, rename. An empty model folder would unload the model, so the folder
    itself appears in one rename too, with its first version inside."""
    log.info("pulling %s: %s files", bucket.uri(record), len(record.files))
    download, staging = pulled / "work/download", pulled / "work/staging"
    shutil.rmtree(pulled / "work", ignore_errors=True)  # of a pull that did not end
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
