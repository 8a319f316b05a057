"""A source of parts that a test changes as it likes."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightly.records.source_config import SourceConfig
from nightly.sources.base import Context, Fetched, Part
from nightly.sources.errors import SourceError
from nightly.sources.fetching import Fetching, fetch_parts
from nightly.sources.part_store import PartStore, in_use

HEADER = "day,fare\n"


@dataclass
class Days:
    """One part for each day; rows and fingerprints are what the test sets.

    :ivar rows: day -> the body's rows; "" for a day without any
    :ivar fingerprints: day -> what the source tells before it is asked for the rows
    :ivar etags: day -> what it tells with the rows; the same one again is "unchanged"
    :ivar broken: days whose fetch breaks off in the middle
    :ivar fetched: the days that were asked for
    """

    rows: dict[str, str]
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    etags: Mapping[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    size: int = 0

    def parts(self) -> list[Part]:
        return [
            Part(
                name=day,
                suffix=".csv",
                fingerprint=self.fingerprints.get(day, ""),
                end=dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) + dt.timedelta(days=1),
                bytes=self.size,
            )
            for day in sorted(self.rows)
        ]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        day = part.name
        self.fetched.append(day)
        etag = self.etags.get(day, "")
        if etag and etag == known:
            return Fetched(unchanged=True)
        if self.rows[day]:
            assert not target.exists()
            target.write_text(HEADER + self.rows[day])
        if day in self.broken:
            raise SourceError(f"{day}: the connection broke")
        return Fetched(etag)

    def night(self, folder: Path, run_id: str, *, settled_days: int | None = None, fresh: bool = False) -> Fetching:
        """Fetch as a night does; forgets what was fetched before."""
        self.fetched.clear()
        settled = None if settled_days is None else dt.timedelta(days=settled_days)
        with in_use(folder):
            return fetch_parts(self, PartStore(folder, "days"), run_id=run_id, settled=settled, fresh=fresh)


def open_source(config: SourceConfig, context: Context) -> Days:
    """Return the source whose fields are JSON in the file `context.address`, for a test that puts it into MODULES."""
    return Days(**json.loads(Path(context.address).read_text()))


def contents(fetching: Fetching) -> list[str]:
    """Return the rows of each body."""
    return [Path(file.path).read_text().removeprefix(HEADER) for file in fetching.files]
