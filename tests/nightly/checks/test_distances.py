"""What is said to explain a drift is what a person counts in the column."""

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from nightly.checks.distances import differences, largest, number_shares


def skewed(seed, kind):
    """Most numbers are small, a few a thousand times as large, and one of them is in a third of the rows."""
    random = np.random.default_rng(seed)
    numbers = np.exp(random.normal(1, 2.5, 3000))
    numbers[random.random(3000) < 0.33] = 7
    return numbers.astype(kind) if kind is not int else numbers.round().astype(np.int64)


@pytest.mark.parametrize("kind", [float, int, np.float32])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x * 3, lambda x: x[x > 7], lambda x: x * 0, lambda x: -x])
def test_the_rows_of_each_range_are_those_that_are_in_it(kind, change):
    now, before = change(skewed(0, kind)), skewed(1, kind)
    found, ranges = number_shares(now, before)
    assert sum(share.rows for share in found) == len(now)
    assert sum(share.control for share in found) == pytest.approx(1, abs=1e-4)
    for share, (low, high) in zip(found, ranges, strict=True):
        ends = [kind(text) for text in share.value.split(" to ")]
        assert (ends[0], ends[-1]) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))
        counted = sum(1 for number in now.tolist() if low <= number <= high)  # row by row
        assert (share.rows, share.share) == (counted, round(counted / len(now), 6))
        assert share.control == round(sum(1 for n in before.tolist() if low <= n <= high) / len(before), 6)


def test_a_number_that_many_rows_have_is_a_range_of_its_own():
    most = largest(number_shares(np.array([0] * 90 + [5] * 10), np.array([0] * 50 + list(range(1, 51))))[0])
    assert (most[0].value, most[0].rows, most[0].control) == ("0", 90, 0.5)


def test_nothing_is_said_of_an_empty_side():
    assert number_shares(np.empty(0), np.arange(10)) == ([], [])


def test_statistics_of_numbers_explain_nothing():
    one, other = (_feature(pd.DataFrame({"x": skewed(seed, float)})) for seed in (0, 1))
    assert differences(one, other) == []


def test_a_value_that_the_statistics_do_not_list_is_not_called_new():
    """TFDV lists a thousand values; `rare` is the thousand-and-first of the control."""
    many = [f"v{n}" for n in range(1000) for _ in range(2)]
    now, before = pd.DataFrame({"x": ["rare"] * 50 + many}), pd.DataFrame({"x": [*many, "rare"]})
    assert all(share.value != "rare" for share in differences(_feature(now), _feature(before)))


def _feature(rows):
    return tfdv.generate_statistics_from_dataframe(rows).datasets[0].features[0]
