"""Days that are missing or doubled, by what such days usually have."""

import datetime as dt

import pytest

from include.contracts.snapshot import SnapshotManifest
from include.pipeline.checks.days import unusual_days

FIRST = dt.date(2016, 1, 4)  # a Monday


def manifest(rows_by_day):
    start = dt.datetime.combine(FIRST, dt.time(), dt.UTC)
    return SnapshotManifest(
        snapshot_id="s",
        model="mine",
        rows=sum(rows_by_day.values()),
        window_start=start,
        window_end=start + dt.timedelta(days=60),
        first_row=start,
        last_row=start + dt.timedelta(days=59, hours=5),
        columns={},
        schema_fingerprint="",
        label_counts={},
        rows_by_day={str(FIRST + dt.timedelta(days=n)): rows for n, rows in rows_by_day.items() if rows},
        duplicate_rows=0,
        rejected=[],
        files=[],
        source=[],
        source_sha256=[],
        code_version="tests",
        created_at=start,
    )


def rows(**changed):
    """A hundred on working days, give or take a few, and twenty on Sundays."""
    ordinary = {n: 20 if n % 7 == 6 else 100 + n % 5 for n in range(60)}
    return manifest({**ordinary, **{int(name[1:]): count for name, count in changed.items()}})


def found(**changed):
    missing, doubled = unusual_days(rows(**changed))
    return [(str(day), count) for day, count, _ in missing], [(str(day), count) for day, count, _ in doubled]


def test_weekends_are_not_missing():
    assert found() == ([], [])


@pytest.mark.parametrize("count", [0, 3])
def test_a_day_with_hardly_any_rows_is_missing(count):
    assert found(d30=count) == ([("2016-02-03", count)], [])


def test_a_day_with_twice_the_rows_is_doubled_although_no_row_is_equal():
    assert found(d30=204) == ([], [("2016-02-03", 204)])


def test_a_week_without_rows_is_seven_days():
    assert len(found(**{f"d{n}": 0 for n in range(28, 35)})[0]) == 7


def test_days_that_are_empty_now_and_then_are_no_news():
    assert found(**{f"d{n}": 0 for n in range(2, 60, 14)}) == ([], [])


def test_the_ends_of_the_window_are_not_judged():
    assert found(d0=0, d59=0) == ([], [])


def test_a_source_that_thins_out_for_good_has_no_missing_days():
    fallen = manifest({n: 100 if n < 30 else n % 4 for n in range(60)})
    assert unusual_days(fallen) == ([], [])


def test_so_few_rows_a_day_say_nothing():
    assert unusual_days(manifest({n: 4 if n != 30 else 0 for n in range(60)})) == ([], [])


def test_a_source_that_has_just_fallen_has_no_missing_days_and_one_that_goes_on_has():
    """Known a few days after, not weeks."""
    fallen = {n: 100 if n < 55 else {57: 9, 58: 12, 59: 9}.get(n, 0) for n in range(60)}
    assert unusual_days(manifest(fallen)) == ([], [])
    (missing, _) = unusual_days(manifest({**fallen, 57: 100, 58: 100, 59: 100}))
    assert [str(day) for day, _, _ in missing] == ["2016-02-28", "2016-02-29"]
