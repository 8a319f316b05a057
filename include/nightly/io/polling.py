"""Poll until a condition is true."""

import math
import sys
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_fixed

Result = TypeVar("Result")


def poll(
    look: Callable[[], Result],
    *,
    every: float,
    seconds: float = math.inf,
    tries: int = sys.maxsize,
    until: Callable[[Result], object] = bool,
) -> Result:
    """Call `look` until `until` is true of its result, and return the last result. Raises what `look` raises.

    :param every: seconds between two calls
    :param seconds: stop calling after this time
    :param tries: stop calling after this number of calls
    """
    stop = stop_after_delay(seconds) | stop_after_attempt(tries)
    retry = retry_if_result(lambda result: not until(result))
    return Retrying(retry=retry, stop=stop, wait=wait_fixed(every), retry_error_callback=_last_result)(look)


def _last_result(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None
