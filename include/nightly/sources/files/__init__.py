"""Files as a source: in a local folder, in a bucket, or on a web server.

formats.py  what files hold, by their names
listing.py  what a path stands for in a night's window
local.py    local files
remote.py   objects in buckets: s3://, gs://, az://
stores.py   clients of buckets, and their errors
tables.py   refuses the files of Delta and Iceberg tables
web.py      http:// and https://
"""

from nightly.records.path_pattern import STORES, WEB
from nightly.records.source_config import FilesSource
from nightly.sources.base import Context, Source
from nightly.sources.errors import PathNotFoundError
from nightly.sources.files.listing import Listing
from nightly.sources.files.local import LocalFiles, described

__all__ = ["described", "open_source"]


def open_source(config: FilesSource, context: Context) -> Source:
    """Return the source of a [source] of kind files. Raises PathNotFoundError if its path is not valid."""
    named = context.connection.extra.get("path") if context.connection else None
    try:
        listing = Listing.of(context.address or named or config.path, config, context)
    except ValueError as error:
        raise PathNotFoundError(f"the path of the source is not valid: {error}") from None
    if listing.pattern.scheme in STORES:
        from nightly.sources.files.remote import ObjectFiles  # takes 0.1 s; only buckets need it

        return ObjectFiles(listing)
    if listing.pattern.scheme in WEB:
        from nightly.sources.files.web import WebFiles

        return WebFiles(listing)
    return LocalFiles(listing)
