"""What is polled is looked at until it is so, or until the bound."""

import operator

import pytest

from nightly.io.polling import poll


def test_the_first_true_answer_is_returned():
    answers = iter([0, "", 7, 8])
    assert poll(lambda: next(answers), every=0) == 7
    assert next(answers) == 8


def test_the_last_answer_is_returned_at_the_bound():
    counted = []
    assert poll(lambda: counted.append(1) or len(counted), until=lambda n: n > 5, tries=3, every=0) == 3
    assert poll(lambda: "not yet", until=operator.not_, seconds=0.05, every=0.01) == "not yet"


def test_an_error_ends_it():
    with pytest.raises(ZeroDivisionError):
        poll(lambda: 1 / 0, every=0, tries=3)
