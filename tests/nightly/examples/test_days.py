"""The newest days are held out: as few as have enough labels, and never all."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.examples import encoding
from nightly.examples.days import DayRows, SplitError, first_eval_day, rows_by_day
from nightly.examples.encoding import Encoding


def day(number):
    return dt.date(2016, 1, number)


@pytest.mark.parametrize(
    ("labelled", "percent", "first"),
    [
        ([10] * 10, 20, 9),
        ([10] * 10, 21, 8),
        ([90, 0, 0, 10], 10, 4),
        ([50, 30, 20, 0], 20, 3),  # the newest day has no label, and is held out with the others
        ([1, 99], 50, 2),
    ],
)
def test_the_fewest_newest_days_with_enough_labels_are_held_out(labelled, percent, first):
    by_day = {day(n + 1): DayRows(100, rows) for n, rows in enumerate(labelled)}
    assert first_eval_day(by_day, percent) == day(first)


@pytest.mark.parametrize("labelled", [[100], [0, 100], [90, 5]])
def test_without_an_older_labelled_day_there_is_nothing_to_train_on(labelled):
    by_day = {day(n + 1): DayRows(100, rows) for n, rows in enumerate(labelled)}
    with pytest.raises(SplitError, match=r"2016-01-0\d and later, and none is older, to train on: lengthen"):
        first_eval_day(by_day, 20)


def test_without_a_label_no_day_is_held_out():
    assert first_eval_day({day(1): DayRows(10, 0)}, 20) is None
    assert first_eval_day({}, 20) is None


@pytest.fixture
def snapshot(tmp_path):
    """Two shards; days in UTC, labels that are blank or of another class."""
    times = pd.to_datetime(
        ["2016-01-01 23:59:59.999", "2016-01-02", "2016-01-02 12:00", "2016-01-03"], utc=True, format="ISO8601"
    )
    for number in range(2):
        labels = pa.array(["a", None, "b", "a"][:: 1 if number else -1])
        columns = {"id": [10 * number + n for n in range(4)], "y": labels}
        table = pa.table(columns | {"t": pa.array(times, pa.timestamp("us", "UTC"))})
        pq.write_table(table, tmp_path / f"rows-{number}.parquet")
    return tmp_path


def test_rows_and_labels_are_counted_by_day(snapshot):
    assert rows_by_day(snapshot, "y", "t") == {day(1): (2, 2), day(2): (4, 2), day(3): (2, 2)}
    assert rows_by_day(snapshot, "y", "t", {"b"}) == {day(1): (2, 0), day(2): (4, 2), day(3): (2, 0)}
    assert rows_by_day(snapshot, "gone", "t") == {}


def test_rows_are_divided_by_the_day_and_unlabelled_ones_left_out(snapshot):
    divided = Encoding(["id"], ["id"], "y", 20, "t", day(2))
    sides = [divided.sides(table.to_batches()[0]) for table in map(pq.read_table, sorted(snapshot.iterdir()))]
    assert [side["train"]["id"].to_pylist() for side in sides] == [[0], [10]]
    assert [side["eval"]["id"].to_pylist() for side in sides] == [[1, 3], [12, 13]]


def test_the_split_by_the_hash_is_what_it_always_was():
    ids = pa.RecordBatch.from_pydict({"id": pa.array(range(1000)), "y": pa.array([1] * 1000)})
    in_eval = Encoding(["id"], ["id"], "y", 20).sides(ids)["eval"]["id"].to_pylist()
    hashes = encoding.split_hash(ids, ["id"])
    assert in_eval == np.flatnonzero(hashes % 100 < 20).tolist()
    assert (in_eval[:8], len(in_eval)) == ([2, 4, 6, 9, 11, 14, 25, 27], 204)
