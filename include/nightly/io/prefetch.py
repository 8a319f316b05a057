"""Process a stream in threads, ahead of its consumer. Arrow and the coders of TFX and TFDV release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nightly.io.machine import cpus

Item, Result = TypeVar("Item"), TypeVar("Result")
THREADS = cpus()


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS) -> Iterator[Result]:
    """Yield function(item) for each item, in order, with at most threads + 1 results in memory.

    The caller's thread iterates over `items`, which need not be thread-safe. An exception of `function` is raised in
    place of its result.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
