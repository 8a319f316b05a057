"""Divide a window into slices of days that are the same every night."""

import datetime as dt
from typing import NamedTuple

from nightly.sources.base import Window

DAY = dt.timedelta(days=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Slice(NamedTuple):
    """Whole days in UTC: start <= time < end."""

    start: dt.datetime
    end: dt.datetime

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    @property
    def last(self) -> dt.datetime:
        """The last of the days."""
        return self.end - DAY

    def pieces(self, days: int) -> list["Slice"]:
        """Return this slice in pieces of at most so many days."""
        if days >= self.days:
            return [self]
        starts = [self.start + offset * DAY for offset in range(0, self.days, days)]
        return [Slice(start, min(start + days * DAY, self.end)) for start in starts]


def slices_of(window: Window, days: int) -> list[Slice]:
    """Return the slices that cover the window, oldest first.

    They lie on a fixed grid that begins at 1970-01-01, so from day to day only the first and the last change. The first
    may begin before the window. The last ends with the window's last day, since what follows is not over yet.
    """
    end = EPOCH - (EPOCH - window.end) // DAY * DAY  # rounded up to a whole day
    start = EPOCH + (window.start - EPOCH) // (days * DAY) * (days * DAY)
    return Slice(start, end).pieces(days)
