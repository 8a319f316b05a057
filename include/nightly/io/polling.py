"""Look again and again, until something is so."""

import math
import sys
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_fixed

Answer = TypeVar("Answer")


def poll(
    look: Callable[[], Answer],
    *,
    every: float,
    seconds: float = math.inf,
    tries: int = sys.maxsize,
    until: Callable[[Answer], object] = bool,
) -> Answer:
    """Call `look` until `until` is true of its answer, and return its last answer. Raises what `look` raises.

    :param every: seconds between two calls
    :param seconds: no further call after these
    :param tries: no further call after so many
    """
    stop = stop_after_delay(seconds) | stop_after_attempt(tries)
    retry = retry_if_result(lambda answer: not until(answer))
    return Retrying(retry=retry, stop=stop, wait=wait_fixed(every), retry_error_callback=_last_answer)(look)


def _last_answer(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None
