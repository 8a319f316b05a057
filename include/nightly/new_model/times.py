"""Find the columns of times, their formats, and which of them says when a row happened."""

import datetime as dt
import itertools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.new_model.tables import Column, Table
from nightly.records.data_config import EPOCHS
from nightly.snapshots.parsing import parse_times

DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%b %d, %Y", "%B %d %Y", "%B %d, %Y"),
    *("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%b-%y", "%b %d %y"),
)
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
ZONES = ("", "%z", " %z")  # %z reads Z, too
FORMATS = (
    *DATES,
    *(date + between + time + zone for date in DATES for between in " T" for time in TIMES for zone in ZONES),
    *("%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z"),
)
YEAR = re.compile(r"\d{4}|\d\D\d\d\b")  # a text without one is no time, and is not tried
NAMED = re.compile(r"(^|_)(time|date|day|datetime|timestamp|ts|at|on|when|epoch|created|started|start|occurred)(_|$)")
LATER = re.compile(r"(^|_)(end|ended|closed|updated|modified|finished|returned|resolved|dropoff|due|until)(_|$)")
CHANGED = re.compile(  # not status_changed_at: another column may have changed behind it
    r"((row|record|last|date|time)_?)*(updated?|modified|modification|changed?)(_?(at|on|ts|utc|time|date|datetime|timestamp))*"
)
MIN_READABLE = 0.99  # of the values; rows with another time are rejected every night
MAX_MISSING = 0.01  # rows without a time are rejected, too
TRIED = 200  # distinct values that each format is tried on
SECONDS = (dt.datetime(1980, 1, 1).timestamp(), dt.datetime(2100, 1, 1).timestamp())


@dataclass(frozen=True)
class Time:
    """A column of times.

    :ivar formats: all that read it, the likeliest first; several if days and months cannot be told apart
    :ivar times: of the sample, in microseconds since 1970, sorted: int64 [rows with a time]
    """

    column: str
    formats: list[str]
    times: np.ndarray
    missing: float

    @property
    def format(self) -> str:
        return self.formats[0]

    @property
    def first(self) -> dt.datetime:
        return _moment(self.times[0])

    @property
    def last(self) -> dt.datetime:
        return _moment(self.times[-1])

    @property
    def is_usable(self) -> bool:
        """Whether nearly every row has a time, and there are several."""
        return self.missing <= MAX_MISSING and self.times[0] < self.times[-1]

    @property
    def days(self) -> np.ndarray:
        """The day of each row, as a number since 1970: int64 [rows with a time]."""
        return self.times // 86_400_000_000


def times_of(table: Table) -> list[Time]:
    """Return the columns of times, the likeliest time of a row first: complete, with the name of one, and early."""
    times = [time for column in table.columns.values() if (time := time_of(column))]

    def unlikely(time: Time) -> tuple[bool, bool, bool]:
        return not time.is_usable, bool(LATER.search(time.column)), not NAMED.search(time.column)

    return sorted(times, key=unlikely)


def changed_at_of(times: list[Time], others: Collection[str]) -> str:
    """Return the column that says, by its name, when a row last changed, and whose values sort by time; or "".

    :param others: columns that are something else
    """
    named = [time for time in times if CHANGED.fullmatch(time.column) and time.column not in others]
    sorted_ones = [time.column for time in named if time.format in EPOCHS or time.format.startswith("%Y")]
    return sorted_ones[0] if sorted_ones else ""


def time_of(column: Column, named: bool = False) -> Time | None:
    """Return the column's times, or None if it has none.

    :param named: a person says that it has times, so numbers are read as such whatever the column's name
    """
    if not column.is_single or not column.counts:
        return None
    formats = _formats(column, named or bool(NAMED.search(column.name)))
    if not formats:
        return None
    texts = pc.drop_null(column.texts)
    times = parse_times(texts, formats[0]).drop_null().cast(pa.int64()).to_numpy()
    return Time(column.name, formats, np.sort(times), column.missing_share)


def _formats(column: Column, named: bool) -> list[str]:
    if column.type == "int64" and named:
        low, high = column.low or 0, column.high or 0
        for unit, factor in (("epoch_s", 1), ("epoch_ms", 1000)):
            if SECONDS[0] * factor <= low <= high <= SECONDS[1] * factor:
                return [unit]
    values = [value for value, _ in column.counts]
    step = max(len(values) // TRIED, 1)
    tried = values[::step][:TRIED]
    if column.is_number and not (named and all(re.fullmatch(r"[12]\d{7}", value) for value in tried)):
        return []
    if not any(YEAR.search(value) for value in tried[:5]):
        return []
    return _reading(tried)


def _reading(values: list[str]) -> list[str]:
    """Return the formats that read nearly all of the values."""
    allowed = int((1 - MIN_READABLE) * len(values))

    def reads(time_format: str) -> bool:
        failures = itertools.islice((v for v in values if not _is_time(v.strip(), time_format)), allowed + 1)
        return len(list(failures)) <= allowed

    return [time_format for time_format in FORMATS if reads(time_format)]


def _is_time(text: str, time_format: str) -> bool:
    try:
        return dt.datetime.strptime(text, time_format).year >= 1800
    except ValueError:
        return False


def why_not(time: Time) -> str:
    """Return why the times are not usable."""
    if time.missing > MAX_MISSING:
        return f"{time.missing:.1%} of the rows have none"
    return "all rows have the same"


def mixed_formats(column: Column) -> list[str]:
    """Return two formats or more that together read a column of text that none reads alone; [] if there are none."""
    values = [value.strip() for value, _ in column.counts[:TRIED]] if column.is_text else []
    chosen: list[str] = []
    for value in values:
        if not any(_is_time(value, known) for known in chosen):
            fitting = next((f for f in FORMATS if YEAR.search(value) and _is_time(value, f)), None)
            if fitting is None or len(chosen) == 3:
                return []
            chosen.append(fitting)
    return chosen if len(chosen) > 1 else []


def largest_gap(days: Iterable[int]) -> int:
    """Return the most days from one day with rows to the next."""
    unique = np.unique(np.fromiter(days, np.int64))
    return int(np.diff(unique).max(initial=1))


def _moment(microseconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(microseconds))
