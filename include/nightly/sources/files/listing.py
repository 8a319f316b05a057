"""What a path of a files source stands for in a night's window: its dates, its folders, and the columns in them."""

import datetime as dt
import logging
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.parse import unquote

from nightly.records.data_config import column_name
from nightly.records.path_pattern import GLOB, PathPattern, glob_regex
from nightly.records.source_config import FileFormat, FilesSource
from nightly.sources.base import Context, clock
from nightly.sources.files.formats import is_hidden, kind_of

log = logging.getLogger(__name__)

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SHOWN = 5


def tell_missing(missing: Collection[str]) -> None:
    """Log the dates without a file, which are no error."""
    if missing:
        shown = ", ".join(list(missing)[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        log.warning("%s dates of the window have no file: %s", f"{len(missing):,}", shown)


class Globs:
    """Paths with or without globs, by what stands before the first glob: a name is compared with few of them.

    :ivar by_beginning: beginning -> its paths
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.by_beginning: dict[str, list[str]] = {}
        for path in paths:
            magic = GLOB.search(path)
            self.by_beginning.setdefault(path[: magic.start()] if magic else path, []).append(path)
        self._lengths = {len(beginning) for beginning in self.by_beginning}

    def match(self, name: str) -> str | None:
        """Return the path that the name, or a folder above it, matches; None if none does."""
        candidates = (path for length in self._lengths for path in self.by_beginning.get(name[:length], []))
        return next((path for path in candidates if _regex(path).fullmatch(name)), None)


@cache
def _regex(path: str) -> re.Pattern[str]:
    return re.compile(glob_regex(path) + "(/.*)?")


@dataclass(frozen=True)
class Listing:
    """The path of a source in a window.

    :ivar format: the kind of all files; "" if their names tell it
    :ivar connection: the id of the connection, for messages; "" if there is none
    """

    pattern: PathPattern
    format: FileFormat | Literal[""]
    extra_days: int
    connection: str
    context: Context

    @classmethod
    def of(cls, path: str, config: FilesSource, context: Context) -> "Listing":
        connection = config.connection if context.connection else ""
        return cls(PathPattern(path), config.format, config.extra_days, connection, context)

    def paths(self) -> dict[str, dt.datetime | None]:
        """Return each path of the window -> when its date ends, or None if it has no date."""
        window, extra = self.context.window, dt.timedelta(days=self.extra_days)
        known = max(window.as_of, clock(window.as_of, self.context.time_zone))
        latest = max(window.end, min(window.end + extra, known))
        try:
            return self.pattern.expand(window.start - extra, latest)
        except OverflowError:
            return self.pattern.expand(window.start, latest)

    def is_readable(self, below: str) -> bool:
        """Return whether a file below the root is read. Names that begin with . or _ are left out, as in Spark."""
        name = below.rpartition("/")[2]
        return not is_hidden(below) and bool(self.format or kind_of(name)) and self._in_window(self.partition(below))

    def partition(self, below: str) -> dict[str, str | None]:
        """Return the columns of the folders `name=value` (Hive's partitions) in a path below the root."""
        pairs = [folder.partition("=") for folder in below.strip("/").split("/")[:-1]]
        values = {unquote(name): unquote(value) for name, equals, value in pairs if name and equals}
        return {name: None if value in ("", NO_VALUE) else value for name, value in values.items()}

    def _in_window(self, partition: dict[str, str | None]) -> bool:
        """Return whether rows of the window may be in a partition, which may be a day of the time column."""
        for name, value in partition.items():
            if value and self.context.rename.get(name, column_name(name)) == self.context.time_column:
                for time_format in (self.context.time_format, "%Y-%m-%d"):
                    with suppress(ValueError):
                        day = dt.datetime.strptime(value, time_format)
                        day = (day if day.tzinfo else day.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
                        window = self.context.window
                        return day < window.end and day + dt.timedelta(days=1) > window.start
        return True
