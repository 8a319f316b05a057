"""Returns freed memory to the operating system after large requests; the C library would keep it."""

import ctypes
import gc
import sys
import threading

DELAY_SECONDS = 1.0  # an answered request has freed its tensors by then

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc only
_pending = threading.Lock()


def release_soon() -> None:
    """Return free memory in a second, once for all calls until then."""
    if _pending.acquire(blocking=False):
        timer = threading.Timer(DELAY_SECONDS, _release)
        timer.daemon = True
        timer.start()


def _release() -> None:
    _pending.release()
    gc.collect()  # takes a millisecond, since the modules are frozen
    if _malloc_trim is not None:
        _malloc_trim(0)
