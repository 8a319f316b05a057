"""Data without a time, and times of a time zone."""

import datetime as dt
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from nightly.records.data_config import Data
from nightly.snapshots.errors import ColumnError, SnapshotError
from tests.support.nights import utc

FLOWERS = ["5.1,1.4,A", "4.9,1.3,B", "6.3,6.0,C", "5.8,5.1,A"]
TIMELESS = {"time_column": ""}
LABEL = {"id_columns": [], "label": {"column": "city", "positive": ["A"]}}


def test_without_a_time_every_row_is_read_in_the_order_of_the_hashes(bench):
    ids, orders = set(), set()
    for lines in itertools.islice(itertools.permutations(FLOWERS), 0, 24, 5):
        bench.body("a.csv", "\n".join(["width,length,city", *lines, ""]))
        ref = bench.ingest(**TIMELESS)
        ids.add(ref.snapshot_id)
        orders.add(tuple(bench.rows(ref, "width")))
    assert (len(ids), len(orders)) == (1, 1)
    manifest = bench.store.get(ref.snapshot_id)
    assert (manifest.rows, manifest.first_row, manifest.last_row, manifest.rows_by_day) == (4, None, None, {})
    assert (ref.delivery.rows, ref.delivery.outside, ref.delivery.oldest) == (4, 0, None)
    assert bench.ingest(start=utc(2020, 1, 1), end=utc(2020, 2, 1), **TIMELESS).snapshot_id == ref.snapshot_id


def test_without_a_time_known_at_works_too(bench):
    bench.body("a.csv", "id,known,city\n1,2016-01-01,A\n1,2016-01-09,B\n2,2016-03-01,C\n")
    ref = bench.ingest(end=utc(2016, 1, 5), known_at="known", **TIMELESS | {"id_columns": ["id"]})
    assert bench.rows(ref, "id", "city") == [("1", "A")]
    assert ref.delivery.not_known_yet == 2


def test_without_a_time_the_faults_of_a_body_are_seen_as_with_one(bench):
    bench.body("a.csv", 'trips,fare,city\n1,2,A\nx,2,B\n1,2\n3,"4,C\n5,6,D\n7,8,"E"\n')
    ref = bench.ingest(max_rejected_share=1.0, **TIMELESS)
    assert [(row["reason"], row["column"]) for row in bench.rejected()].count(("number", "trips")) == 1
    assert "columns" in {row["reason"] for row in bench.rejected()}
    assert ref.delivery.rejected_rows >= 2


def test_without_a_time_no_day_is_held_out():
    with pytest.raises(ValidationError, match='eval = "newest" holds out the newest days, and there is no time_column'):
        Data(**LABEL, time_column="", eval="newest")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-01-10 12:00:00", utc(2016, 1, 10, 18)),
        ("2016-07-10 12:00:00", utc(2016, 7, 10, 17)),
        ("2016-11-06 01:30:00", utc(2016, 11, 6, 6, 30)),  # twice: the first
        ("2016-03-13 02:30:00", utc(2016, 3, 13, 8)),  # never: the end of the gap
    ],
)
def test_times_without_an_offset_are_of_the_time_zone(bench, text, moment):
    naive = dt.datetime.fromisoformat(text)
    year = {"start": utc(2016, 1, 1), "end": utc(2017, 1, 1), "time_zone": "America/Chicago"}
    bench.body("a.csv", f"day,city\n{text},A\n")
    of_csv = bench.ingest(time_format="%Y-%m-%d %H:%M:%S", **year)
    bench.body("a.csv", f"day,city\n{naive:%d.%m.%Y %H.%M},A\n")
    of_other_format = bench.ingest(time_format="%d.%m.%Y %H.%M", **year)
    (bench.bodies / "a.csv").unlink()
    pq.write_table(pa.table({"day": [naive], "city": ["A"]}), bench.bodies / "a.parquet")
    of_parquet = bench.ingest(**year)
    assert bench.rows(of_csv, "day") == [(moment,)]
    assert of_csv.snapshot_id == of_other_format.snapshot_id == of_parquet.snapshot_id


def test_a_time_with_an_offset_needs_no_time_zone(bench):
    bench.body("a.csv", "day,city\n2016-01-10T12:00:00+0100,A\n")
    ref = bench.ingest(time_format="%Y-%m-%dT%H:%M:%S%z", time_zone="America/Chicago")
    assert bench.rows(ref, "day") == [(utc(2016, 1, 10, 11),)]


def test_a_day_of_a_time_zone_is_known_at_its_end_there(bench):
    bench.body("a.csv", "day,known,city\n2016-01-09,2016-01-09,A\n")
    chicago = {"known_at": "known", "time_zone": "America/Chicago"}
    assert bench.ingest(end=utc(2016, 1, 10, 5, 59), **chicago).rows == 0
    assert bench.ingest(end=utc(2016, 1, 10, 6), **chicago).rows == 1


def test_a_time_zone_that_is_not_there_is_named(bench, monkeypatch):
    with pytest.raises(ValidationError, match="there is no time zone 'America/Chicgo'; did you mean 'America/Chicago'"):
        Data(**LABEL, time_column="day", time_zone="America/Chicgo")
    bench.body("a.csv", "day,city\n2016-01-10,A\n")
    monkeypatch.setattr("nightly.records.data_config._known_zone", lambda name: name)  # known to Python only
    with pytest.raises(SnapshotError, match=r"of the zone 'Mars/Olympus' of data.time_zone: .*Mars/Olympus"):
        bench.ingest(time_zone="Mars/Olympus")


def test_a_time_column_of_a_type_without_a_date_is_named(bench):
    pq.write_table(pa.table({"day": [dt.time(3, 0)], "city": ["A"]}), bench.bodies / "a.parquet")
    with pytest.raises(ColumnError, match=r"'day' is of type time64\[us\] at the source, and must be a date"):
        bench.ingest()
