"""Read days that follow each other by one query, as far as they are asked for."""

import datetime as dt
from collections.abc import Callable, Iterator

import pyarrow as pa

from nightly.io.prefetch import read_ahead
from nightly.sources.sql.times import Times

MOST = 128  # slices that one query reads

Query = Callable[[dt.date, dt.date], Iterator[pa.RecordBatch]]  # (first day, day after the last) -> its rows by time


class RunAhead:
    """The rows of slices, each of which begins where the one before ends.

    A query for each day costs a scan of the table where the time column has no index, and a round trip anyway. Which
    days will be asked for is not known. So a query reads twice as many slices as the one before, while they follow
    each other, and only one after a gap.

    :param starts: the first day of each slice, and the end of the last
    :param most: 1 where each slice needs a query of its own
    """

    def __init__(self, query: Query, times: Times, position: int, starts: list[dt.date], most: int = MOST) -> None:
        self._query, self._times, self._position, self._starts, self._most = query, times, position, starts, most
        self._next = -1  # the slice that the open query has not yet delivered
        self._end = -1  # the slice behind those that it reads
        self._ahead = 1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def rows(self, index: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a slice. They must be read to their end before those of another."""
        if index != self._next or index >= self._end:
            self._open(index)
        self._next = -1  # an error leaves the query where no other slice may go on
        end = self._starts[index + 1]
        while (batch := self._rest if self._rest is not None else next(self._batches, None)) is not None:
            count = self._times.before(batch.column(self._position), end)
            self._rest = batch.slice(count) if count < batch.num_rows else None
            if count:
                yield batch.slice(0, count)
            if self._rest is not None:
                break
        self._next = index + 1

    def _open(self, index: int) -> None:
        follows = index == self._next
        if not follows:
            for _ in self._batches:  # a driver cannot leave a result in the middle
                pass
        self._ahead = min(2 * self._ahead, self._most) if follows else 1
        self._rest = None
        self._end = min(index + self._ahead, len(self._starts) - 1)
        # In a thread: while a part is written, the database goes on.
        self._batches = read_ahead(self._query(self._starts[index], self._starts[self._end]))
