"""Tie a step's process to its parent."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def end_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, or its thread that started this process, ends.

    Works on Linux only. Elsewhere a step outlives a killed parent.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
