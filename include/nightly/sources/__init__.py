"""Data sources: each kind fetches the bodies of a window to disk, without reading their rows."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from nightly.records.night import Download, utc_now
from nightly.records.source_config import ComplaintsApiSource, FilesSource
from nightly.sources import complaints_api, files
from nightly.sources.errors import SourceError

__all__ = ["SourceError", "fetch"]


def fetch(
    source: FilesSource | ComplaintsApiSource,
    *,
    address: str | None = None,
    headers: Mapping[str, str] | None = None,
    window_start: dt.datetime,
    window_end: dt.datetime,
    folder: Path,
) -> Download:
    """Fetch the bodies with the rows of [window_start, window_end). They may contain more rows.

    :param address: replaces the source's own url or path
    :param folder: for downloaded bodies; local files stay where they are
    :raises SourceError: the source does not deliver its bodies
    """
    if window_start >= window_end:
        raise ValueError(f"the window is empty: it begins {window_start} and ends {window_end}")
    if isinstance(source, FilesSource):
        bodies = files.fetch(address or source.path)
    else:
        bodies = complaints_api.fetch(
            address or source.url,
            headers=headers,
            window_start=window_start,
            window_end=window_end,
            folder=folder,
            timeout=source.timeout_seconds,
            retries=source.retries,
        )
    return Download(
        kind=source.kind, files=bodies, window_start=window_start, window_end=window_end, fetched_at=utc_now()
    )
