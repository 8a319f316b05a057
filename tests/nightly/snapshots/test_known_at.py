"""Rows that arrive late or are revised: a night of the past sees them as they were known then."""

import datetime as dt
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from nightly.records.data_config import Data
from tests.support.nights import utc

DAYS = 5
BY_ID = {"id_columns": ["id"], "known_at": "known", "known_at_format": "%Y-%m-%dT%H:%M:%S"}


def trips() -> list[dict]:
    """400 trips of the five days, in the order in which the source got to know their versions.

    A third arrives up to three days late, the label up to two days after the trip, and a tenth is corrected again.
    """
    numbers, versions = random.Random(7), []
    for trip in range(400):
        day = utc(2016, 1, 1) + dt.timedelta(days=numbers.randrange(DAYS))
        known = day + dt.timedelta(hours=numbers.randrange(24))
        if trip % 3 == 0:
            known += dt.timedelta(hours=numbers.randrange(72))
        row = {"id": trip, "day": day, "known": known, "trips": numbers.randrange(9), "fare": None, "city": None}
        versions.append(row)
        labelled = known + dt.timedelta(hours=1 + numbers.randrange(48))
        versions.append(row | {"known": labelled, "city": numbers.choice("AB"), "fare": numbers.randrange(900) / 8})
        if trip % 10 == 0:
            later = labelled + dt.timedelta(hours=1 + numbers.randrange(48))
            versions.append(versions[-1] | {"known": later, "fare": numbers.randrange(900) / 8})
    return sorted(versions, key=lambda row: row["known"])


def csv_of(versions: list[dict]) -> str:
    lines = [
        f"{row['id']},{row['day']:%Y-%m-%d},{row['known']:%Y-%m-%dT%H:%M:%S},{row['trips']},"
        f"{'' if row['fare'] is None else row['fare']},{row['city'] or ''}"
        for row in versions
    ]
    return "\n".join(["id,day,known,trips,fare,city", *lines, ""])


def parquet_of(versions: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(versions), sink)
    return sink.getvalue().to_pybytes()


def test_a_backfill_makes_the_snapshots_of_the_nights_that_really_ran(bench):
    versions = trips()
    nights = [utc(2016, 1, 2, 3) + dt.timedelta(days=n) for n in range(DAYS)]
    ran = []
    for as_of in nights:
        bench.body("trips.csv", csv_of([row for row in versions if row["known"] <= as_of]))
        ran.append(bench.ingest(end=as_of, **BY_ID))
    assert ran[2].delivery.not_known_yet == 0
    assert ran[2].delivery.superseded > 50
    assert ran[2].delivery.duplicate_rows == 0
    for kind in ("csv", "parquet"):  # afterwards the source has all versions
        for body in bench.bodies.iterdir():
            body.unlink()
        bench.body(f"trips.{kind}", csv_of(versions) if kind == "csv" else parquet_of(versions))
        again = [bench.ingest(end=as_of, **BY_ID) for as_of in nights]
        assert [ref.snapshot_id for ref in again] == [ref.snapshot_id for ref in ran]
        assert again[2].delivery.not_known_yet > 50
        assert "rows known only after the as-of time and" in again[2].delivery.as_known
    assert len({ref.snapshot_id for ref in ran}) == DAYS
    late = bench.ingest(end=utc(2016, 2, 1), **BY_ID)
    labels = dict(bench.rows(late, "id", "city"))
    assert len(labels) == 400
    assert None not in labels.values()
    assert None in dict(bench.rows(ran[2], "id", "city")).values(), "labels that were not known yet"


def test_the_version_known_last_is_kept_and_of_several_the_last_read(bench):
    header = "id,day,known,trips\n"
    bench.body("a.csv", header + "1,2016-01-01,2016-01-05T10:00:00,1\n2,2016-01-01,2016-01-02T10:00:00,1\n")
    bench.body("b.csv", header + "1,2016-01-01,2016-01-03T10:00:00,2\n2,2016-01-01,2016-01-02T10:00:00,2\n")
    bench.schema.write_text('feature { name: "trips" type: INT }')
    ref = bench.ingest(**BY_ID)
    assert sorted(bench.rows(ref, "id", "trips")) == [("1", 1), ("2", 2)]
    assert (ref.delivery.rows, ref.delivery.superseded, ref.delivery.duplicate_rows) == (4, 1, 1)


def test_without_ids_late_rows_are_left_out_and_every_known_version_stays(bench):
    bench.body("a.csv", "day,known,city\n2016-01-01,2016-01-02,A\n2016-01-01,2016-01-04,B\n2016-01-01,2016-02-04,C\n")
    ref = bench.ingest(known_at="known")
    assert sorted(bench.rows(ref, "city")) == [("A",), ("B",)]
    assert (ref.delivery.not_known_yet, ref.delivery.superseded) == (1, 0)


@pytest.mark.parametrize(
    ("known_format", "known", "as_of", "seen"),
    [
        ("%Y-%m-%dT%H:%M:%S", "2016-01-05T03:00:00", utc(2016, 1, 5, 3), True),
        ("%Y-%m-%dT%H:%M:%S", "2016-01-05T03:00:01", utc(2016, 1, 5, 3), False),
        ("epoch_s", "1451962800", utc(2016, 1, 5, 3), True),
        ("", "2016-01-05", utc(2016, 1, 5, 3), False),  # a day is over at its end only
        ("", "2016-01-05", utc(2016, 1, 5, 23, 59), False),
        ("", "2016-01-04", utc(2016, 1, 5), True),
    ],
)
def test_a_row_is_known_from_its_moment_on_and_a_day_from_its_end_on(bench, known_format, known, as_of, seen):
    bench.body("a.csv", f"day,known,city\n2016-01-02,{known},A\n2016-01-01,2016-01-01,B\n")
    if known_format:
        bench.body("a.csv", f"day,known,city\n2016-01-02,{known},A\n")
    ref = bench.ingest(end=as_of, known_at="known", known_at_format=known_format)
    assert (ref.delivery.not_known_yet == 0) is seen
    assert ("A" in [city for (city,) in (bench.rows(ref, "city") if ref.rows else [])]) is seen


def test_a_window_whose_rows_were_all_known_later_says_so(bench):
    bench.body("a.csv", "day,known,city\n2016-01-02,2016-03-01,A\n")
    ref = bench.ingest(known_at="known")
    assert ref.no_data(utc(2016, 1, 1), utc(2016, 2, 1)) == (
        "the source has no rows from 2016-01-01 to 2016-02-01 (its 1 rows are from 2016-01-02 00:00 to "
        "2016-01-02 00:00 UTC, and 1 rows were known only later)"
    )


def test_a_row_without_a_readable_known_at_is_rejected_and_a_body_without_the_column_too(bench):
    bench.body("a.csv", "day,known,city\n2016-01-01,,A\n2016-01-01,soon,B\n2016-01-01,2016-01-02,C\n2017-01-01,,D\n")
    bench.body("b.csv", "day,city\n2016-01-01,E\n")
    ref = bench.ingest(known_at="known")
    assert [city for (city,) in bench.rows(ref, "city")] == ["C"]
    assert [(row["reason"], row["column"], row["value"]) for row in bench.rejected()] == [
        ("time", "known", ""),
        ("time", "known", "soon"),
        ("time", "known", ""),
    ]


def test_known_at_is_in_the_snapshot_and_no_feature():
    data = {"id_columns": [], "time_column": "day", "label": {"column": "y", "positive": ["1"]}}
    assert Data(**data, known_at="known").ignore == ["known"]
    assert Data(**data, known_at="known", ignore=["known"]).ignore == ["known"]
    assert Data(**Data(**data, known_at="known").model_dump()) == Data(**data, known_at="known")
    for column in ("day", "y"):
        with pytest.raises(ValidationError, match="a column of another meaning"):
            Data(**data, known_at=column)
