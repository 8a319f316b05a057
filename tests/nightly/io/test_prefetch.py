"""Threads work ahead of a stream: in its order, never far ahead, and an error comes where its result would have."""

import threading
import time

import pytest

from nightly.io.prefetch import prefetch


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first():
    assert list(prefetch(lambda n: time.sleep((n % 3) / 100) or n * n, range(20), threads=4)) == [
        n * n for n in range(20)
    ]


def test_no_more_items_are_taken_than_threads_can_work_on_and_one():
    taken = []
    results = prefetch(lambda n: n, (taken.append(n) or n for n in range(100)), threads=2)
    assert next(results) == 0 and len(taken) == 3
    assert next(results) == 1 and len(taken) == 4


def test_an_error_is_raised_in_its_place_and_no_thread_is_left():
    def reciprocal(n):
        return 1 / n

    before = set(threading.enumerate())
    results = prefetch(reciprocal, [2, 4, 0, 5], threads=2)
    assert [next(results), next(results)] == [0.5, 0.25]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert set(threading.enumerate()) <= before
