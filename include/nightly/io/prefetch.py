"""Work on a stream by threads, ahead of whoever takes the results: Arrow, TFDV's and TFX's coders release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nightly.io.machine import cpus

Item, Made = TypeVar("Item"), TypeVar("Made")
THREADS = cpus()


def ahead(function: Callable[[Item], Made], items: Iterable[Item], threads: int = THREADS) -> Iterator[Made]:
    """function(item) for each item, in their order; at most threads + 1 of them wait in memory. Raises what it raises.

    Items are taken in the caller's thread, so that what makes them need not be safe for threads.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
