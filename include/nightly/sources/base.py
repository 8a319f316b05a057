"""What every kind of source is: it lists the parts of a window, and fetches each part into a file."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from nightly.records.connection import Connection


@dataclass(frozen=True)
class Window:
    """The rows that a night asks for: those with start <= time < end, as of `as_of`. All are in UTC."""

    start: dt.datetime
    end: dt.datetime
    as_of: dt.datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"the window is empty: it begins {self.start} and ends {self.end}")


def clock(moment: dt.datetime, time_zone: str) -> dt.datetime:
    """Return the time that the clocks of a zone show, as a time in UTC; the later one in an hour that comes twice."""
    local = moment.astimezone(ZoneInfo(time_zone))
    offset = local.replace(fold=0).utcoffset() or dt.timedelta()
    return moment.astimezone(dt.UTC) + offset


@dataclass(frozen=True)
class Part:
    """A piece of a source that is fetched as a whole: a file, a partition, or the rows of some days.

    :ivar name: the same for the same piece every night, e.g. `s3://bucket/2016-03-01.parquet`. It has no credentials
    :ivar suffix: of the fetched file, by which readers tell its kind: .csv, .csv.gz, .parquet, …
    :ivar fingerprint: other text when the rows are others, e.g. an ETag; "" if the source cannot tell beforehand
    :ivar end: the part's rows are older than this; None if that is not known
    :ivar bytes: the size of its body, so that a full disk is noticed before the download; 0 if that is not known
    :ivar path: the part itself, if it is a local file: it is read where it is
    :ivar partition: columns that are the same for all rows of the part, and are not in its file
    :ivar rows: False if it never has any, as a table's version: it counts as a part only if it tells of revised rows
    """

    name: str
    suffix: str = ".parquet"
    fingerprint: str = ""
    end: dt.datetime | None = None
    bytes: int = 0
    path: Path | None = None
    partition: dict[str, str | None] = field(default_factory=dict)
    rows: bool = True


@dataclass(frozen=True)
class Fetched:
    """What a source tells of a part that it has fetched.

    :ivar fingerprint: replaces the part's own, if the source learns it only now
    :ivar unchanged: the part is as it was with the fingerprint `known`; nothing was written
    :ivar revised: rows that an earlier night fetched have changed at the source, although the part's body does not tell
    """

    fingerprint: str = ""
    unchanged: bool = False
    revised: bool = False


class Source(Protocol):
    """A source for one window."""

    def parts(self) -> list[Part]:
        """Return the parts that the window needs, in the order in which their rows are read. Fetches no rows.

        Of rows with the same id, the last one read is kept. Raises SourceError.
        """
        ...

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        """Write the part to `target`, or nothing if it has no rows. Raises SourceError.

        `target` does not exist yet. Files beside it whose names begin with its name, such as `TARGET.part`, are left by
        an earlier try of the same run: this one may go on with them.

        :param known: the fingerprint of the part's body from an earlier night; "" if there is none
        """
        ...


@runtime_checkable
class FileSource(Source, Protocol):
    """A source whose parts are files: a part that has no rows is a file that is not there.

    :ivar connections: how many parts may be fetched at the same time, in threads
    """

    connections: int

    def lost(self, name: str) -> Part | None:
        """Return the part of a file that `parts` does not return, if the window would have it; else None.

        :param name: of a part of some window, which an earlier night has read
        """
        ...


@dataclass(frozen=True)
class Context:
    """What a kind of source needs besides its own section of the config.

    :ivar time_zone: of times without an offset, a name of the IANA database
    :ivar folder: of the model, include/models/NAME
    :ivar address: replaces the config's path or URL, for one run
    """

    window: Window
    time_column: str
    time_format: str
    time_zone: str = "UTC"
    rename: dict[str, str] = field(default_factory=dict)
    connection: Connection | None = None
    folder: Path = Path()
    address: str = ""
