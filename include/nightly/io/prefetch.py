"""Process a stream in threads, ahead of its consumer. Arrow and the coders of TFX and TFDV release the GIL."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nightly.io.machine import cpus

Item, Result = TypeVar("Item"), TypeVar("Result")
THREADS = cpus()


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS, waiting_results: int = 0
) -> Iterator[Result]:
    """Yield function(item) for each item, in order.

    The caller's thread iterates over `items`, which need not be thread-safe. An exception of `function` is raised in
    place of its result.

    :param waiting_results: how many results are in memory at most, besides the one that is used; by default as many as
        there are threads
    """
    most = waiting_results or threads
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_ahead(items: Iterator[Item], count: int = 4) -> Iterator[Item]:
    """Yield `items`, which are read in a thread, with at most `count` of them in memory. None ends them.

    An exception of `items` is raised in its place.
    """
    ahead = prefetch(lambda _: next(items, None), itertools.repeat(None), threads=1, waiting_results=count)
    yield from itertools.takewhile(lambda item: item is not None, ahead)
