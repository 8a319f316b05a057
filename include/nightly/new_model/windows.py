"""Choose the window of a night from the times of the data."""

import datetime as dt
import math
from dataclasses import dataclass

import numpy as np

from nightly.new_model.tables import Table
from nightly.new_model.times import Time, largest_gap

YEAR = 365
ENOUGH_ROWS = 2000  # of a window: with fewer, a fifth of them says little of a model
SPARE = 0.4  # of short data, left outside the first window, so that thresholds can be measured on earlier ones
LONGEST = 36_500  # config.toml's limit
REGULAR = 0.9  # of the steps of a series; the others are gaps
STOPPED_DAYS = 3  # after so many days without a row, the data is taken to have ended


@dataclass(frozen=True)
class Window:
    """The window of a night.

    :ivar end: the midnight after the last row
    :ivar range_days: of the data, from its first day to its last
    :ivar rows: about how many rows the newest window has
    :ivar ended_on: the day on which the data ends; None if it seems to go on
    :ivar is_series: whether there is a row for each moment of a regular series
    """

    look_back_days: int
    why: str
    end: dt.datetime
    range_days: int
    rows: int
    ended_on: dt.date | None
    max_age_days: float
    is_series: bool


def window_of(table: Table, time: Time, now: dt.datetime) -> Window:
    """Return a window that ends with the data, or now if the data has later times."""
    today = (now - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).days
    days = time.days[time.days <= today]
    if not len(days):
        days = time.days
    last = int(days[-1])
    span = last - int(days[0]) + 1

    def rows(look_back: int) -> int:
        return round(int((days > last - look_back).sum()) * table.scale)

    look_back, why = _look_back(span, rows)
    recent = days[days > last - look_back]
    gap = largest_gap(recent)
    ended = today - last > max(STOPPED_DAYS, 2 * gap)
    return Window(
        look_back_days=min(look_back, LONGEST),
        why=why,
        end=dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=last + 1),
        range_days=span,
        rows=rows(look_back),
        ended_on=dt.date(1970, 1, 1) + dt.timedelta(days=last + 1) if ended else None,
        max_age_days=max(3, math.ceil(1.5 * gap) + 1),
        is_series=is_series(time),
    )


def is_series(time: Time) -> bool:
    """Return whether each row has a time of its own, and nearly all are equally far apart."""
    steps = np.diff(time.times)
    if not len(steps) or not steps.all():
        return False
    return bool((steps == np.median(steps)).mean() >= REGULAR)


def _look_back(span: int, rows) -> tuple[int, str]:
    """Return the days, and why.

    :param span: days of the data
    :param rows: returns the rows of the newest days
    """
    if span >= 1.5 * YEAR:
        for years in range(1, span // YEAR + 1):
            if rows(years * YEAR) >= ENOUGH_ROWS:
                why = "a year has every season once, so seasons do not look like drift"
                return years * YEAR, why if years == 1 else f"{why}; {years} of them for {ENOUGH_ROWS:,} rows"
        return span, f"all of the data: it has few rows, {rows(span):,}"
    part = math.floor(span * (1 - SPARE))
    if part >= 7 and rows(part) >= ENOUGH_ROWS:
        return part, f"the data has {span} days; the others show how much windows differ"
    return span, f"all of the data, {span} days: a shorter window would have under {ENOUGH_ROWS:,} rows"
