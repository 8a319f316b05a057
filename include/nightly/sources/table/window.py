"""Bounds of the time column that each row of a window keeps, by which whole data files are left out."""

import datetime as dt
import re
from typing import Any

import pyarrow as pa

from nightly.sources.base import Context

# A day or a time without a zone may be of any zone, so its bounds are a day wider.
DAY = dt.timedelta(days=1)
# As text, these begin in the order of time.
SORTABLE = re.compile(r"%Y-%m-%d|%Y/%m/%d|%Y\.%m\.%d|%Y%m%d")


def bounds(kind: pa.DataType, context: Context) -> tuple[Any, Any] | None:
    """Return `low` and `high` with low <= time < high, as values of a column of type `kind`.

    None if the column's values have another order than time.
    """
    start, end = context.window.start, context.window.end
    early, late = start - DAY, end + DAY
    if pa.types.is_timestamp(kind):
        return (start, end) if kind.tz else (early.replace(tzinfo=None), late.replace(tzinfo=None))
    if pa.types.is_date(kind):
        return early.date(), late.date() + DAY
    if pa.types.is_integer(kind) and context.time_format in ("epoch_s", "epoch_ms"):
        factor = 1000 if context.time_format == "epoch_ms" else 1
        return int(start.timestamp()) * factor, (int(end.timestamp()) + 1) * factor
    days = SORTABLE.match(context.time_format)
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and days:
        return early.strftime(days[0]), (late + DAY).strftime(days[0])
    return None
