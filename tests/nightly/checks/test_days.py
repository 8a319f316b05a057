"""Days that are missing or doubled, by what such days usually have."""

import datetime as dt

import numpy as np
import pytest

from nightly.checks.days import thinnest_week, unusual_days

FIRST = dt.date(2016, 1, 4)  # a Monday


def counts(rows_by_day):
    """Every whole day of the sixty, the first and the last one left out."""
    return {FIRST + dt.timedelta(days=n): rows_by_day.get(n, 0) for n in range(1, 59)}


def rows(**changed):
    """A hundred on working days, give or take a few, and twenty on Sundays."""
    ordinary = {n: 20 if n % 7 == 6 else 100 + n % 5 for n in range(60)}
    return counts({**ordinary, **{int(name[1:]): count for name, count in changed.items()}})


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


def test_a_source_that_thins_out_for_good_has_no_missing_days():
    fallen = counts({n: 100 if n < 30 else n % 4 for n in range(60)})
    assert unusual_days(fallen) == ([], [])


def test_so_few_rows_a_day_say_nothing():
    assert unusual_days(counts({n: 4 if n != 30 else 0 for n in range(60)})) == ([], [])


def test_a_source_that_has_just_fallen_has_no_missing_days_and_one_that_goes_on_has():
    """Known a few days after, not weeks."""
    fallen = {n: 100 if n < 55 else {57: 9, 58: 12, 59: 9}.get(n, 0) for n in range(60)}
    assert unusual_days(counts(fallen)) == ([], [])
    (missing, _) = unusual_days(counts({**fallen, 57: 100, 58: 100, 59: 100}))
    assert [str(day) for day, _, _ in missing] == ["2016-02-28", "2016-02-29"]


def thin(share, first, *, rows=13, days=365, seed=0, weeks=1):
    """A source of Poisson counts of which a share of some weeks' rows is missing."""
    random = np.random.default_rng(seed)
    counted = random.poisson(rows, days)
    counted[first : first + 7 * weeks] = random.binomial(counted[first : first + 7 * weeks], 1 - share)
    return {FIRST + dt.timedelta(days=n): int(count) for n, count in enumerate(counted)}


@pytest.mark.parametrize("first", [0, 30, 100, 200, 358])
@pytest.mark.parametrize("rows", [30, 2500])
def test_a_week_with_half_of_its_rows_is_thin(rows, first):
    day, total, usual = thinnest_week(thin(0.5, first, rows=rows))
    assert abs((day - FIRST).days - first) <= 1
    assert 0.4 < total / usual < 0.6


def test_ordinary_weeks_and_a_holiday_are_not_thin():
    for seed in range(20):
        found = thinnest_week(thin(0, 0, seed=seed))
        assert found is None or found[1] / found[2] > 0.6
    assert thinnest_week(rows()) is None
    found = thinnest_week(rows(d30=10))
    assert found is None or found[1] / found[2] > 0.8


def test_a_source_that_has_lastingly_fewer_rows_has_no_thin_week():
    fallen = {FIRST + dt.timedelta(days=n): 100 if n < 100 else 50 for n in range(200)}
    assert thinnest_week(fallen) is None


def test_so_few_rows_a_week_say_nothing():
    assert thinnest_week(thin(0.5, 30, rows=4)) is None
