"""Days that follow each other are read by few queries."""

import datetime as dt

import pyarrow as pa
import pytest

from nightly.sources.sql.database import Column
from nightly.sources.sql.run_ahead import RunAhead
from nightly.sources.sql.times import Times

FIRST = dt.date(2015, 1, 1)
TIMES = Times(Column("at", "timestamp", "q.at", "q.at"), "%Y-%m-%d")


def days(count):
    return [FIRST + dt.timedelta(days=n) for n in range(count + 1)]


class Hours:
    """A table with a row an hour, but none on each fifth day, read in batches of `size` rows."""

    def __init__(self, size):
        self.size = size
        self.queries = []

    def __call__(self, first, end):
        self.queries.append((end - first).days)
        begin = dt.datetime.combine(first, dt.time())
        hours = [begin + dt.timedelta(hours=n) for n in range(24 * (end - first).days)]
        column = pa.array([hour for hour in hours if (hour.date() - FIRST).days % 5], pa.timestamp("us"))
        for start in range(0, len(column), self.size):
            yield pa.RecordBatch.from_arrays([column.slice(start, self.size)], ["at"])


@pytest.mark.parametrize("size", [1, 7, 24, 1000])
def test_a_year_takes_few_queries_and_each_day_gets_its_rows(size):
    table, starts = Hours(size), days(365)
    ahead = RunAhead(table, TIMES, 0, starts)
    for index, day in enumerate(starts[:-1]):
        hours = [hour for batch in ahead.rows(index) for hour in batch.column(0).to_pylist()]
        assert [hour.date() for hour in hours] == [day] * (24 if index % 5 else 0)
    assert table.queries == [1, 2, 4, 8, 16, 32, 64, 128, 110]


def test_after_a_gap_a_query_reads_one_slice():
    table = Hours(10)
    ahead = RunAhead(table, TIMES, 0, days(30))
    for index in (1, 2, 3, 4, 7, 9, 11, 12, 29):
        assert {hour.date() for batch in ahead.rows(index) for hour in batch.column(0).to_pylist()} == {days(30)[index]}
    assert table.queries == [1, 2, 4, 1, 1, 1, 2, 1]
