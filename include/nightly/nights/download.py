"""The night's download step: request.json -> download.json, and the bodies."""

import logging
import os
from pathlib import Path
from typing import Any

from nightly.io.paths import Paths
from nightly.io.secrets import hide
from nightly.io.space import full_disk_explained
from nightly.models import config_of, window_end
from nightly.nights.unfinished import unfinished
from nightly.records.base import ContractError
from nightly.records.connection import Connection, variable
from nightly.records.night import Download, Night
from nightly.sources import fetch
from nightly.sources.part_store import PARTS, alone, in_use, retain
from nightly.state import current, publish

KEEP = 3  # nights whose bodies stay: the last, and those with the latest windows; the snapshots hold their rows

log = logging.getLogger("nightly")


def run(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Fetch the bodies of the night in `night_folder`, and return their number and size as plain data.

    The connection's address and credentials come from the environment. Raises SourceError, ContractError or SpaceError.
    """
    night = Night.load(night_folder / Night.FILE)
    config = config_of(night)
    folder = paths.downloads / night.model
    with in_use(folder), full_disk_explained(folder, "the download"):
        download = fetch(
            config.source,
            window_start=night.window_start,
            window_end=window_end(night),
            as_of=night.as_of,
            folder=folder,
            data=config.data,
            connection=_connection(config.source.connection),
            address=night.source_address,
            model_folder=config.folder,
            run_id=night.run_id,
            fresh=night.fresh,
        )
        download.save(night_folder / Download.FILE)
        publish(night_folder / Download.FILE)  # before other hosts may remove its bodies
    remove_old(paths, night.model)
    return report(download)


def report(download: Download) -> dict[str, Any]:
    """Log what was fetched, and return it as plain data."""
    size = sum(file.bytes for file in download.files)
    log.info(
        "%d files with %s bytes for %s to %s",
        *(len(download.files), f"{size:,}", download.window_start, download.window_end),
    )
    if download.parts:
        log.info(
            "%d of %d parts were fetched by earlier nights; %s bytes were fetched now",
            *(download.reused, download.parts, f"{download.fetched_bytes:,}"),
        )
    if download.revision:
        log.warning("%s", download.revision)
        for name in download.revised:
            log.info("has changed: %s", name)
        for name in download.removed:
            log.info("is gone: %s", name)
    return {
        "files": len(download.files),
        "bytes": size,
        "parts": download.parts,
        "reused": download.reused,
        "fetched_bytes": download.fetched_bytes,
        "revised": len(download.revised),
        "removed": len(download.removed),
    }


def remove_old(paths: Paths, model: str) -> int:
    """Remove the bodies that neither an unfinished night nor one of the last few uses; return how many."""
    folder, removed = paths.downloads / model, []
    try:
        with alone(folder):
            for records in (paths.nights / model, folder / PARTS):
                current().refresh(records)
            removed = retain(folder, *_in_use(paths, model))
    except BlockingIOError:
        log.info("no body is removed while another run of %s downloads", model)
    except (ContractError, FileNotFoundError) as error:
        log.warning("no body is removed, because it is not known which ones are in use: %s", error)
    else:
        log.info("bodies removed: %s", len(removed) or "none")
    return len(removed)


def _in_use(paths: Paths, model: str) -> tuple[set[str], list[str]]:
    """Return the paths of the bodies in use, and the ids of the unfinished runs."""
    active, nights = unfinished(paths.nights / model), {}
    for path in (paths.nights / model).glob(f"*/{Night.FILE}"):
        try:
            nights[path.parent] = Night.load(path)
        except ContractError:
            if path.parent in active:  # what it uses is not known
                raise
    downloaded = [folder for folder in nights if (folder / Download.FILE).exists()]
    last = sorted(downloaded, key=lambda folder: (folder / Download.FILE).stat().st_mtime)[-KEEP:]
    # A backfill does not cost the next night its window.
    newest = sorted(downloaded, key=lambda folder: nights[folder].as_of)[-KEEP:]
    kept = {*last, *newest, *(folder for folder in active if folder in downloaded)}
    files = [file.path for folder in kept for file in Download.load(folder / Download.FILE).files]
    return set(files), [nights[folder].run_id for folder in active]


def _connection(name: str) -> Connection | None:
    """Return the connection from the environment, and hide its credentials from logs, errors and child processes."""
    if not name:
        return None
    connection = Connection.from_environment(name)
    if connection is None:
        log.info("there is no connection %r (%s): using the address of the model's config", name, variable(name))
        return None
    hide(connection.secrets())
    del os.environ[variable(name)]
    return connection
