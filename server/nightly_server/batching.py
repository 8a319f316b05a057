"""Request batching: concurrent requests to the same version and signature run as one.

The rules are those of TensorFlow's shared batch scheduler and TensorFlow Serving's batching session. A batch closes
when it is full or its first request has waited for the timeout. A fixed number of threads serves the queues in turn.
If one of these threads is idle and a batch may run at once, the request's own thread runs it: waking another thread
takes longer than many models.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import grpc
import numpy as np

from nightly_server.config import BatchingParameters
from nightly_server.errors import ServingError, exceeded, invalid, precondition
from nightly_server.monitoring import BATCH_SIZE, QUEUING_LATENCY, Metrics

Run = Callable[..., list[np.ndarray]]


@dataclass
class _Task:
    inputs: list[np.ndarray]
    rows: int
    enqueued: float = field(default_factory=time.monotonic)
    result: Future = field(default_factory=Future)


@dataclass
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0


class BatchScheduler:
    """The threads that all queues share. Their number limits how many batches run at once, in them or in callers."""

    def __init__(self, parameters: BatchingParameters, metrics: Metrics) -> None:
        self.parameters = parameters
        self._metrics = metrics
        self.changed = threading.Condition()
        self._queues: deque[BatchQueue] = deque()
        self._idle = parameters.num_batch_threads or os.cpu_count() or 1
        for number in range(self._idle):
            threading.Thread(target=self._work, name=f"{parameters.thread_pool_name}-{number}", daemon=True).start()

    def queue(self, names: list[str], run: Run) -> "BatchQueue":
        """Return a queue for `run`, which takes the arrays of `names` in this order."""
        queue = BatchQueue(self, names, run)
        with self.changed:
            self._queues.append(queue)
        return queue

    def remove(self, queue: "BatchQueue") -> None:
        with self.changed:
            self._queues.remove(queue)

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self._idle or (ready := self._next()) is None:
                    self.changed.wait(self._seconds_to_wait() if self._idle else None)
                self._idle -= 1
            try:
                self._run(*ready)
            finally:
                with self.changed:
                    self._idle += 1

    def on_submit(self, queue: "BatchQueue") -> Callable[[], None] | None:
        """Notice a new task in `queue`; return what the caller must run once it has released `changed`, or None."""
        if not self._idle or len(queue.batches) > 1 or queue.deadline() > time.monotonic():
            self.changed.notify()
            return None
        self._idle -= 1
        return partial(self._run_here, queue, queue.batches.popleft())

    def _run_here(self, queue: "BatchQueue", batch: _Batch) -> None:
        try:
            self._run(queue, batch)
        finally:
            with self.changed:
                self._idle += 1
                self.changed.notify()

    def _run(self, queue: "BatchQueue", batch: _Batch) -> None:
        now, pool = time.monotonic(), self.parameters.thread_pool_name
        tasks = [task for task in batch.tasks if task.result.set_running_or_notify_cancel()]
        for task in tasks:
            self._metrics.observe(QUEUING_LATENCY, (now - task.enqueued) * 1e6, thread_pool_name=pool)
        try:
            results = queue.process(tasks) if tasks else []
        except Exception as error:
            for task in tasks:
                task.result.set_exception(ServingError.of_run(error))
        else:
            for task, outputs in zip(tasks, results, strict=True):
                task.result.set_result(outputs)

    def _next(self) -> "tuple[BatchQueue, _Batch] | None":
        now = time.monotonic()
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if queue.deadline() <= now:
                return queue, queue.batches.popleft()
        return None

    def _seconds_to_wait(self) -> float | None:
        deadline = min((queue.deadline() for queue in self._queues), default=math.inf)
        return None if deadline == math.inf else max(deadline - time.monotonic(), 0)

    def observe_size(self, rows: int) -> None:
        self._metrics.observe(BATCH_SIZE, rows)


class BatchQueue:
    """The waiting requests to a signature of a version, in batches."""

    def __init__(self, scheduler: BatchScheduler, names: list[str], run: Run) -> None:
        self._scheduler = scheduler
        self._names = names
        self._run = run
        self.batches: deque[_Batch] = deque()

    def close(self) -> None:
        self._scheduler.remove(self)

    def deadline(self) -> float:
        """Return when the first batch may run, in monotonic seconds: 0 (now) if it is full or another follows it."""
        if not self.batches:
            return math.inf
        first, parameters = self.batches[0], self._scheduler.parameters
        if len(self.batches) > 1 or first.rows >= parameters.max_batch_size:
            return 0
        return first.tasks[0].enqueued + parameters.batch_timeout_micros / 1e6

    def __call__(self, inputs: list[np.ndarray], deadline: float) -> list[np.ndarray]:
        """Run `inputs` within a batch and return the result, waiting until `deadline` of the monotonic clock.

        A task that has not begun by then is cancelled. Raise ServingError.
        """
        parameters = self._scheduler.parameters
        if not inputs:
            raise invalid("Batching Run() must have at least one input tensor")
        if any(array.ndim == 0 for array in inputs):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        rows = len(inputs[0])
        if any(len(array) != rows for array in inputs):
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        if rows > parameters.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {parameters.max_batch_size}")
        task = _Task(inputs, rows)
        with self._scheduler.changed:
            if not self.batches or self.batches[-1].rows + rows > parameters.max_batch_size:
                if len(self.batches) >= parameters.max_enqueued_batches:
                    raise ServingError(
                        grpc.StatusCode.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full",
                    )
                self.batches.append(_Batch())
            self.batches[-1].tasks.append(task)
            self.batches[-1].rows += rows
            run_here = self._scheduler.on_submit(self)
        if run_here:
            run_here()
        try:
            return task.result.result(min(max(deadline - time.monotonic(), 0), threading.TIMEOUT_MAX))
        except TimeoutError:
            if task.result.cancel():
                raise ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
                ) from None
            raise exceeded("Timed out waiting for notification") from None

    def process(self, tasks: list[_Task]) -> list[list[np.ndarray]]:
        """Run the tasks as one batch; return each task's outputs, in order."""
        parameters = self._scheduler.parameters
        rows = sum(task.rows for task in tasks)
        size = next((size for size in parameters.allowed_batch_sizes if size >= rows), rows)
        self._scheduler.observe_size(size)
        merged = []
        for position, name in enumerate(self._names):
            arrays = [task.inputs[position] for task in tasks]
            if len({array.shape[1:] for array in arrays}) > 1:
                if not parameters.pad_variable_length_inputs:
                    raise precondition(
                        f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                        "off.Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                        "have equal dimensions starting with the first dim."
                    )
                arrays = _pad(arrays, name)
            if size > rows:  # any valid row fills the batch; its result is dropped
                arrays.append(np.repeat(arrays[-1][:1], size - rows, axis=0))
            merged.append(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
        outputs = self._run(*merged)
        for output in outputs:
            if output.ndim == 0:
                raise precondition("Batched output tensor has 0 dimensions")
            if len(output) != size:
                raise precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors"
                )
        results, start = [], 0
        for task in tasks:
            results.append([output[start : start + task.rows] for output in outputs])
            start += task.rows
        return results


def _pad(arrays: list[np.ndarray], name: str) -> list[np.ndarray]:
    """Return the arrays, padded to the longest in every dimension but the first, each with its own first element."""
    if len({array.ndim for array in arrays}) > 1 or any(array.size == 0 for array in arrays):
        raise precondition(f"Tensors with name '{name}' cannot be padded: their ranks differ or one is empty")
    shape = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    padded = []
    for array in arrays:
        target = np.full((len(array), *shape), array.flat[0], dtype=array.dtype)
        target[tuple(slice(size) for size in array.shape)] = array
        padded.append(target)
    return padded
