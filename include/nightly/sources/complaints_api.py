"""The consumer complaint database's public search API, as CSV, by window of the date received.

Facts about the service, from its source and release notes (github.com/cfpb/ccdb5-api, github.com/cfpb/api):

- `date_received_min` and `date_received_max` are inclusive, whole days. `size` and `frm` do not apply to an export.
- An export of more than 100,000 complaints is refused with 400 (since August 2026).
- Failures of its search engine have the status 424. Exports are throttled by address, with 429 and Retry-After.
- Columns change over the years (`Consumer disputed?` was dropped in June 2026), so this module relies on none.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from pathlib import Path

from nightly.records.night import DownloadedFile
from nightly.sources.errors import HttpStatusError
from nightly.sources.http import TRANSIENT_STATUSES, download

log = logging.getLogger(__name__)

SLICE_DAYS = 31  # long, since exports are throttled; halved if the service refuses a slice as too big
TRANSIENT = TRANSIENT_STATUSES | {424}


def fetch(
    url: str,
    *,
    headers: Mapping[str, str] | None,
    window_start: dt.datetime,
    window_end: dt.datetime,
    folder: Path,
    timeout: float,
    retries: int,
) -> list[DownloadedFile]:
    """Download the complaints received in [window_start, window_end), one CSV a slice of days, oldest first.

    A slice without rows yields no file. Raises SourceError.
    """
    day = window_start.astimezone(dt.UTC).date()
    last = (window_end.astimezone(dt.UTC) - dt.timedelta(microseconds=1)).date()
    files, days = [], SLICE_DAYS
    headers = {"Accept": "text/csv", **(headers or {})}
    while day <= last:
        until = min(day + dt.timedelta(days=days - 1), last)
        params = {
            "format": "csv",
            "no_aggs": "true",
            "field": "all",
            "date_received_min": day.isoformat(),
            "date_received_max": until.isoformat(),
        }
        target = folder / f"complaints-{day}-to-{until}.csv"
        try:
            file = download(
                url, target, params=params, headers=headers, timeout=timeout, retries=retries, transient=TRANSIENT
            )
        except HttpStatusError as error:
            if error.status != 400 or until == day:
                raise
            days = ((until - day).days + 1) // 2
            log.warning("%s Asking for %s days at a time.", error, days)
            continue
        if _has_rows(target):
            files.append(file)
        else:
            log.info("no complaints received from %s to %s", day, until)
            target.unlink()
        day = until + dt.timedelta(days=1)
    return files


def _has_rows(path: Path) -> bool:
    with path.open("rb") as file:
        file.readline()
        return any(line.strip() for line in file)
