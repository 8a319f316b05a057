"""Data sources: each kind lists the parts of a window and fetches them to disk, without reading their rows.

base.py         what a kind of source is
fetching.py     fetches the parts that earlier nights have not fetched
part_store.py   keeps them
in_place.py     reads local files where they are
"""

import datetime as dt
import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.night import Download, utc_now
from nightly.records.source_config import SourceConfig
from nightly.sources.base import Context, Source, Window, clock
from nightly.sources.errors import SourceError
from nightly.sources.fetching import fetch_parts
from nightly.sources.part_store import PartStore

__all__ = ["SourceError", "fetch", "open_source"]

# kind -> the module whose `open_source` makes the source. It imports its libraries itself: a night loads only its own.
MODULES = {
    "files": "nightly.sources.files",
    "sql": "nightly.sources.sql",
    "table": "nightly.sources.table",
    "http": "nightly.sources.http",
    "python": "nightly.sources.python",
}


def open_source(config: SourceConfig, context: Context) -> Source:
    """Return the source of a config's [source]. Raises SourceError."""
    return import_module(MODULES[config.kind]).open_source(config, context)


def fetch(
    config: SourceConfig,
    *,
    window_start: dt.datetime,
    window_end: dt.datetime,
    folder: Path,
    as_of: dt.datetime | None = None,
    data: Data | None = None,
    connection: Connection | None = None,
    address: str | None = None,
    model_folder: Path = Path(),
    run_id: str = "run",
    fresh: bool = False,
) -> Download:
    """Fetch the bodies with the rows of [window_start, window_end). They may contain more rows.

    :param folder: the model's downloads, with the parts of earlier nights; local files stay where they are
    :param as_of: what is known later is not asked for; by default the window's end
    :param data: the config's [data], for a source that selects rows by the time column
    :param address: replaces the source's own url or path
    :param model_folder: include/models/NAME
    :param run_id: a later try with the same id goes on where this one stopped
    :param fresh: fetch every part, also those that earlier nights have
    :raises SourceError: the source does not deliver its bodies
    :raises SpaceError: the disk is full
    """
    # Sources compare times without an offset as if they were in UTC. No zone is further from it than a day. The end is
    # exact: a later date was not there yet, and what a backfill finds under it would be late rows.
    zone = data.time_zone if data else "UTC"
    slack = dt.timedelta(days=0 if zone == "UTC" else 1)
    last = max(window_end.astimezone(dt.UTC), clock(window_end, zone))
    window = Window(window_start.astimezone(dt.UTC) - slack, last, as_of or window_end)
    context = Context(
        window=window,
        time_column=data.time_column if data else "",
        time_format=data.time_format if data else "",
        time_zone=zone,
        rename=data.rename if data else {},
        connection=connection,
        folder=model_folder,
        address=address or "",
    )
    fetching = fetch_parts(
        open_source(config, context),
        PartStore(folder, _identity(config, context)),
        run_id=run_id,
        settled=None if config.settled_days is None else dt.timedelta(days=config.settled_days),
        fresh=fresh,
    )
    return Download(
        kind=config.kind,
        files=fetching.files,
        window_start=window_start,
        window_end=window_end,
        fetched_at=utc_now(),
        parts=len(fetching.records),
        reused=len(fetching.records) - len(fetching.fetched),
        fetched_bytes=sum(record.bytes for record in fetching.fetched),
        revised=[revision.name for revision in fetching.revised],
        removed=[revision.name for revision in fetching.removed],
        revised_since=min((revision.since for revision in (*fetching.revised, *fetching.removed)), default=None),
    )


def _identity(config: SourceConfig, context: Context) -> str:
    """Return a hash that differs for another source, or for other parts of it. A URL may have secrets, so no text.

    It does not depend on passwords and keys, which change while the source stays.
    """
    place: tuple[Any, ...] = ()
    if connection := context.connection:
        place = (connection.host, connection.port, connection.database)
        if extra := connection.public_extra():  # such as the parameters of an API, or PostgreSQL's search_path
            place += (json.dumps(extra, sort_keys=True),)
    own = config.model_dump_json(exclude=set(config.SAME_BODIES))
    headers = [header for header, column in context.rename.items() if column == context.time_column]
    time = (*headers, context.time_column, context.time_format)
    return hashlib.sha256(f"{own} {place or None} {context.address} {time}".encode()).hexdigest()[:32]
