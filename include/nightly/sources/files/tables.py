"""Recognize tables among files: the log of a table says which of its files hold rows, so they are not read as files."""

import re
from collections.abc import Iterable

from nightly.sources.errors import RefusedError

LOG = "_delta_log"
METADATA = "metadata"
# format -> a file of its log, below the table's folder
LOGS = {
    "delta": re.compile(rf"(?P<table>.*)/{LOG}/[^/]+"),
    "iceberg": re.compile(rf"(?P<table>.*)/{METADATA}/(v\d+|\d+-[^/]+)(\.gz)?\.metadata\.json"),
}


class IsTableError(RefusedError):
    """The files belong to a Delta or Iceberg table.

    :ivar format: delta or iceberg
    :ivar path: the table's folder
    """

    def __init__(self, table_format: str, path: str) -> None:
        super().__init__(
            f"{path} is a {table_format.capitalize()} table, whose log says which of its files hold rows: set "
            f'kind = "table", format = "{table_format}" and its path in [source] of config.toml.'
        )
        self.format = table_format
        self.path = path


def refuse_tables(paths: Iterable[str]) -> None:
    """Raise IsTableError if one of the paths, or URLs, is a file of a table's log."""
    for path in paths:
        for name, log in LOGS.items():
            if match := log.fullmatch(path):
                raise IsTableError(name, match["table"])
