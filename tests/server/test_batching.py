"""The batch scheduler by itself: which thread runs a batch, and how many run at the same time."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nightly_server.batching import BatchScheduler
from nightly_server.config import BatchingParameters
from nightly_server.errors import ServingError
from nightly_server.monitoring import Metrics

ONE = np.ones((1, 1))
SECONDS = 30


class Model:
    """Doubles its input, notes each run's thread and rows, and waits while it is held."""

    def __init__(self) -> None:
        self.runs: list[tuple[threading.Thread, int]] = []
        self.most = self._running = 0
        self._lock = threading.Lock()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, array: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            self.runs.append((threading.current_thread(), len(array)))
            self._running += 1
            self.most = max(self.most, self._running)
        assert self.free.wait(SECONDS)
        with self._lock:
            self._running -= 1
        return [array * 2]


def queue_of(model: Model, **parameters: int):
    return BatchScheduler(BatchingParameters(**parameters), Metrics()).queue(["x"], model)


def soon() -> float:
    return time.monotonic() + SECONDS


def wait_for_runs(model: Model, count: int) -> None:
    end = soon()
    while len(model.runs) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_lone_request_runs_in_its_own_thread():
    model = Model()
    queue = queue_of(model, num_batch_threads=1)
    for _ in range(3):
        assert queue([ONE], soon())[0].tolist() == [[2.0]]
    assert model.runs == [(threading.current_thread(), 1)] * 3


def test_a_full_batch_runs_in_the_thread_that_filled_it():
    model = Model()
    queue = queue_of(model, num_batch_threads=1, max_batch_size=1, batch_timeout_micros=SECONDS * 1_000_000)
    assert queue([ONE], soon())[0].tolist() == [[2.0]]
    assert model.runs == [(threading.current_thread(), 1)]


def test_a_request_waits_for_company_as_long_as_it_is_told():
    model = Model()
    queue = queue_of(model, num_batch_threads=1, max_batch_size=2, batch_timeout_micros=SECONDS * 1_000_000)
    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(lambda _: queue([ONE], math.inf)[0].tolist(), range(2)))
    assert answers == [[[2.0]]] * 2
    assert [rows for _, rows in model.runs] == [2]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_comes_while_all_threads_are_busy_runs_as_one_batch(threads):
    model = Model()
    queue = queue_of(model, num_batch_threads=threads)
    model.free.clear()
    with ThreadPoolExecutor(threads + 6) as clients:
        first = []
        for number in range(threads):  # one after the other: each begins at once
            first.append(clients.submit(queue, [ONE], soon()))
            wait_for_runs(model, number + 1)
        others = [clients.submit(queue, [ONE], soon()) for _ in range(6)]
        end = soon()
        while sum(len(batch.tasks) for batch in queue.batches) < 6:
            assert time.monotonic() < end
            time.sleep(0.01)
        model.free.set()
        assert [call.result()[0].tolist() for call in first + others] == [[[2.0]]] * (threads + 6)
    assert [rows for _, rows in model.runs] == [1] * threads + [6]
    assert model.most == threads


def test_never_more_batches_at_a_time_than_threads():
    model = Model()
    queue = queue_of(model, num_batch_threads=2, max_batch_size=2, max_enqueued_batches=1000)
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: queue([ONE], soon())[0].tolist(), range(2000)))
    assert answers == [[[2.0]]] * 2000
    assert model.most <= 2
    assert sum(rows for _, rows in model.runs) == 2000


def test_a_run_that_fails_leaves_its_thread_free():
    def fail(array: np.ndarray) -> list[np.ndarray]:
        raise ValueError("no")

    queue = BatchScheduler(BatchingParameters(num_batch_threads=1), Metrics()).queue(["x"], fail)
    for _ in range(3):
        with pytest.raises(ServingError, match="INTERNAL: ValueError: no"):
            queue([ONE], soon())
