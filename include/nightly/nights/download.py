"""The night's download step: request.json -> download.json, and the bodies."""

import logging
from pathlib import Path
from typing import Any

from nightly.io.paths import Paths
from nightly.models import config_of, window_end
from nightly.records.connection import Connection
from nightly.records.night import Download, Night
from nightly.sources import fetch

log = logging.getLogger("nightly")


def run(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Fetch the bodies of the night in `night_folder`, and return their number and size as plain data.

    The connection's address and credentials come from the environment. Raises SourceError or ContractError.
    """
    night = Night.load(night_folder / "request.json")
    config = config_of(night)
    source = config.source
    download = fetch(
        source,
        window_start=night.window_start,
        window_end=window_end(night),
        as_of=night.as_of,
        folder=paths.downloads / night.model,
        data=config.data,
        connection=Connection.from_environment(source.connection) if source.connection else None,
        address=night.source_address,
        model_folder=config.folder,
        run_id=night.run_id,
        fresh=night.fresh,
    )
    download.save(night_folder / "download.json")
    return report(download)


def report(download: Download) -> dict[str, Any]:
    """Log what was fetched, and return it as plain data."""
    size = sum(file.bytes for file in download.files)
    log.info(
        "%d files with %s bytes for %s to %s; %d of an earlier night",
        *(len(download.files), f"{size:,}", download.window_start, download.window_end, download.reused),
    )
    return {"files": len(download.files), "bytes": size, "reused": download.reused, "revised": download.revised}
