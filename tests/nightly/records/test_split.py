"""Whether a model that was trained with one split has seen the eval rows of another."""

import pytest

from nightly.records.release import Split

BEFORE = Split(eval="hash", columns=["id"], eval_percent=20)


@pytest.mark.parametrize("change", [{}, {"eval_percent": 10}])
def test_the_same_or_a_smaller_eval_split_was_held_out(change):
    assert BEFORE.holds_out(BEFORE.model_copy(update=change))


@pytest.mark.parametrize("change", [{"eval_percent": 21}, {"columns": ["id", "day"]}, {"eval": "newest"}])
def test_a_larger_one_or_one_by_other_columns_or_by_time_was_not(change):
    assert not BEFORE.holds_out(BEFORE.model_copy(update=change))


def test_a_split_is_described_in_a_few_words():
    assert BEFORE.described == "20 % by a hash of id"
    assert BEFORE.model_copy(update={"columns": [*"abcde"]}).described == "20 % by a hash of a, b, c and 2 more"
    by_time = Split(eval="newest", columns=["day"], eval_percent=20)
    assert by_time.described == "20 % of the newest days by day"
