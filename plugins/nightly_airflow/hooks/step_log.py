"""Logs the lines that a step has printed (nightly.runtime.worker) in its task's log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from nightly.io.secrets import masked

# ML Metadata's native library logs each connection to PostgreSQL, and its level cannot be set. Only errors are shown.
NATIVE = re.compile(r"[IW]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ |WARNING: Logging before InitGoogleLogging")
LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+): (.*)")


def logged(lines: Iterable[str], log: logging.Logger) -> Iterator[str]:
    """Log each line at the level that the step logged it with, without secrets; yield its text.

    A line without a level, as of a traceback, has that of the line before.
    """
    level = logging.INFO
    for line in map(masked, lines):  # also what a native library prints
        if NATIVE.match(line):
            log.debug("%s", line.rstrip())
            continue
        if match := LINE.match(line):
            level = logging.getLevelNamesMapping()[match[1]]
        text = match[3] if match else line.rstrip()
        log.log(level, "%s", text)
        yield text
