"""The labelled rows of each day of a snapshot, and the days that are held out of training if the newest ones are."""

import datetime as dt
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.errors import UserError

DAY = 86_400_000_000  # microseconds
EPOCH = dt.date(1970, 1, 1)


class SplitError(UserError):
    """The newest days leave none to train on. The message names the days and what to change."""


class DayRows(NamedTuple):
    rows: int
    labelled: int


def rows_by_day(snapshot: Path, label: str, time_column: str, classes: Collection[str] = ()) -> dict[dt.date, DayRows]:
    """Return day in UTC -> its rows, in order. Days without rows are absent.

    :param classes: the only values that count as labels; empty if all do
    """
    rows: Counter[int] = Counter()
    labelled: Counter[int] = Counter()
    for path in sorted(snapshot.glob("rows-*.parquet")):
        if label not in pq.read_schema(path).names:
            return {}
        for batch in pq.ParquetFile(path).iter_batches(columns=[time_column, label]):
            labels = batch.column(label)
            known = labels.is_valid()
            if classes:
                known = pc.is_in(labels.cast(pa.string()), pa.array(sorted(classes), pa.string()))
            days = batch.column(time_column).cast(pa.int64()).to_numpy() // DAY
            for counted, chosen in ((rows, days), (labelled, days[known.to_numpy(zero_copy_only=False)])):
                unique, counts = np.unique(chosen, return_counts=True)
                counted.update(dict(zip(unique.tolist(), counts.tolist(), strict=True)))
    return {EPOCH + dt.timedelta(days=day): DayRows(rows[day], labelled[day]) for day in sorted(rows)}


def first_eval_day(by_day: dict[dt.date, DayRows], percent: int) -> dt.date | None:
    """Return the first of the fewest newest days that have `percent` of the labelled rows; None if none is labelled.

    Raises SplitError if no labelled row is older.
    """
    total, held_out = sum(day.labelled for day in by_day.values()), 0
    for day in sorted(by_day, reverse=True):
        held_out += by_day[day].labelled
        if total and 100 * held_out >= percent * total:
            if held_out == total:
                raise SplitError(
                    f'data.eval = "newest" holds out the newest days with {percent} % of the {total:,} labelled rows. '
                    f"These are all of {day} and later, and none is older, to train on: lengthen data.look_back_days, "
                    'lower data.eval_percent, or set data.eval = "hash"'
                )
            return day
    return None
