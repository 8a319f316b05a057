"""Which rows a night may see: those with a time in its window, and known at its as-of time."""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from nightly.records.data_config import Data
from nightly.snapshots.errors import ColumnError, SnapshotError
from nightly.snapshots.parsing import has_time_of_day, parse_times
from nightly.snapshots.types import TYPES


@dataclass(frozen=True)
class Times:
    """The time column and `known_at` of a night's rows. The window is start <= time < end."""

    data: Data
    start: dt.datetime
    end: dt.datetime
    as_of: dt.datetime

    @property
    def known_format(self) -> str:
        return self.data.known_at_format or self.data.time_format

    def parse(self, column: str, values: pa.Array) -> pa.TimestampArray:
        """Return the values of the time column or of `known_at` as moments; null for a blank or another format.

        Raises ColumnError if the column is of a type without a date, and SnapshotError for an unknown time zone.
        """
        time_format = self.known_format if column == self.data.known_at else self.data.time_format
        try:
            return parse_times(values, time_format, self.data.time_zone)
        except pa.ArrowNotImplementedError:
            raise ColumnError(
                f"{column!r} is of type {values.type} at the source, and must be a date, a timestamp, or what its "
                "format in config.toml says"
            ) from None
        except pa.ArrowInvalid as error:
            raise SnapshotError(
                f"{column!r} cannot be read as times of the zone {self.data.time_zone!r} of data.time_zone: {error}"
            ) from None

    def in_window(self, times: pa.TimestampArray) -> pa.BooleanArray:
        start, end = (pa.scalar(moment, TYPES["timestamp"]) for moment in (self.start, self.end))
        return pc.and_(pc.greater_equal(times, start), pc.less(times, end))

    def known(self, known_at: pa.TimestampArray, source_type: pa.DataType) -> pa.BooleanArray:
        """Return which rows were known at the as-of time.

        A day without a time of day counts as its end: before, the row may not have been there yet.

        :param source_type: of the column at the source
        """
        latest = self.as_of
        temporal = pa.types.is_temporal(source_type)
        if pa.types.is_date(source_type) or not (temporal or has_time_of_day(self.known_format)):
            zone = ZoneInfo(self.data.time_zone)
            ended = self.as_of.astimezone(zone).date() - dt.timedelta(days=1)  # the last day that is over
            latest = dt.datetime.combine(ended, dt.time(), zone)
        return pc.less_equal(known_at, pa.scalar(latest, TYPES["timestamp"]))
