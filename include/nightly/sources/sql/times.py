"""The time column of a database's table: days as bounds of the column's own type, and rows as days."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from nightly.records.data_config import EPOCHS
from nightly.sources.base import Window
from nightly.sources.errors import RefusedError
from nightly.sources.sql.database import Column

EPOCH = dt.date(1970, 1, 1)
SORTED = "YmdHMSf"  # the directives of a format whose texts sort as their times do


@dataclass(frozen=True)
class Times:
    """How the values of the time column compare with days.

    A day is one of the column's own calendar: of UTC for moments and epoch numbers, of `time_zone` for other times.
    """

    column: Column
    time_format: str
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        name, kind = self.column.name, self.column.kind
        if kind == "other":
            raise RefusedError(
                f"the time column {name!r} is of type {self.column.declared}, which does not compare with a time: "
                "convert it in `query`, e.g. to a timestamp."
            )
        if kind == "number" and not self._unit and self.time_format != "%Y%m%d":
            raise RefusedError(
                f"the time column {name!r} has numbers, and data.time_format is {self.time_format!r}: set it to "
                "epoch_s or epoch_ms, or convert the column to a timestamp in `query`."
            )
        if kind == "text" and not self._day_format:
            raise RefusedError(
                f"the time column {name!r} is text, and text of the format {self.time_format!r} does not sort by time: "
                "convert it to a timestamp in `query`, or write it with the year first, e.g. as %Y-%m-%d."
            )

    @property
    def _unit(self) -> int:
        """Return how many of an epoch's units a second has; 0 if the format is no epoch."""
        return {"epoch_s": 1, "epoch_ms": 1_000}.get(self.time_format, 0)

    @property
    def _day_format(self) -> str:
        """Return the format up to the day, of a format that sorts; otherwise ""."""
        directives = "".join(re.findall(r"%(.)", self.time_format))
        if self.time_format in EPOCHS or len(directives) < 3 or not SORTED.startswith(directives):
            return ""
        return self.time_format[: self.time_format.index("%d") + 2]

    @property
    def zone(self) -> dt.tzinfo:
        in_utc = self.column.kind == "timestamptz" or self._unit
        return dt.UTC if in_utc or self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def days(self, window: Window) -> tuple[dt.date, dt.date]:
        """Return the first and the last day with rows of the window."""
        last = min(window.end, window.as_of) - dt.timedelta(microseconds=1)
        return window.start.astimezone(self.zone).date(), last.astimezone(self.zone).date()

    def begin(self, day: dt.date) -> dt.datetime:
        """Return the moment at which a day begins."""
        return dt.datetime.combine(day, dt.time(), self.zone).astimezone(dt.UTC)

    def bound(self, day: dt.date) -> Any:
        """Return the least value of a day, in the column's own type."""
        kind = self.column.kind
        if kind == "date":
            return day
        if kind in ("timestamp", "timestamptz"):
            return dt.datetime.combine(day, dt.time(), dt.UTC if kind == "timestamptz" else None)
        if self._unit:
            return (day - EPOCH).days * 86_400 * self._unit
        text = day.strftime(self._day_format)
        return int(text) if kind == "number" else text

    def before(self, values: pa.Array, day: dt.date) -> int:
        """Return how many of the values, which are sorted, are before a day."""
        bound = self.bound(day)
        if self.column.kind == "number":
            values = values.cast(pa.float64())
        elif self.column.kind != "text":
            values = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
            bound = dt.datetime.combine(day, dt.time(), dt.UTC if values.type.tz else None)
        earlier = pc.less(values, pa.scalar(bound, values.type))
        later = pc.index(earlier, False).as_py()
        return len(values) if later < 0 else later

    def day_sql(self, column: str, first: dt.date, substring: str) -> str:
        """Return the SQL expression of a row's day, which `day` reads.

        :param first: the day of the earliest row
        """
        if self._unit:
            return f"FLOOR(({column} - {self.bound(first)}) / {86_400 * self._unit})"
        if self.column.kind == "text":
            return f"{substring}({column}, 1, {len(first.strftime(self._day_format))})"
        return column if self.column.kind == "number" else f"CAST({column} AS DATE)"

    def day(self, value: Any, first: dt.date) -> dt.date | None:
        """Return the day that `day_sql` stands for; None for a text in another format."""
        if isinstance(value, dt.date):
            return value.date() if isinstance(value, dt.datetime) else value
        if self._unit:
            return first + dt.timedelta(days=int(float(value)))
        try:
            text = str(int(value)) if self.column.kind == "number" else str(value)
            return dt.datetime.strptime(text, self._day_format or "%Y-%m-%d").date()
        except ValueError:
            return None
