"""Memory that large requests have freed, given back to the operating system: the C library keeps it otherwise."""

import ctypes
import gc
import sys
import threading

DELAY_SECONDS = 1.0  # by then a request that has been answered has let go of its tensors

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # of glibc
_pending = threading.Lock()


def give_back_soon() -> None:
    """Give back what is free in a second; once for all calls until then."""
    if _pending.acquire(blocking=False):
        timer = threading.Timer(DELAY_SECONDS, _give_back)
        timer.daemon = True
        timer.start()


def _give_back() -> None:
    _pending.release()
    gc.collect()  # a millisecond: the modules are frozen
    if _malloc_trim is not None:
        _malloc_trim(0)
