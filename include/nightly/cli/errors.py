"""Errors of the command lines: one line on standard error, exit status 2, never a traceback."""

import argparse
import errno
import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

from nightly.io import variables
from nightly.io.errors import DamageError, UserError
from nightly.io.secrets import masked

DAMAGED, USER_ERROR = 1, 2  # exit statuses

P = ParamSpec("P")

log = logging.getLogger("nightly")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {one_line(message)}; see {self.prog} --help\n")


def command(name: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's `main`: print a user's error in one line and return an exit status.

    The status is 2 for a user's error and 1 for damaged files. Any other error is a bug, and is raised. With
    NIGHTLY_LOG_LEVEL=DEBUG, the traceback of a user's error or of Ctrl-C is shown too.

    :param name: the command as people type it
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            except KeyboardInterrupt:
                if variables.LOG_LEVEL.read().upper() != "DEBUG":
                    sys.excepthook = lambda *_: print(f"{name}: interrupted", file=sys.stderr)
                raise  # so that the shell learns of the signal
            except (UserError, OSError) as error:
                if variables.LOG_LEVEL.read().upper() == "DEBUG":
                    log.exception("%s failed", name)
                print(f"{name}: error: {describe(error)}", file=sys.stderr)
                return DAMAGED if isinstance(error, DamageError) else USER_ERROR

        return run

    return decorate


def describe(error: UserError | OSError) -> str:
    """Return an error's message as one line, without passwords; for an OSError what, where and what to do."""
    if isinstance(error, UserError) or error.filename is None:
        return masked(one_line(str(error)))
    path = error.filename2 or error.filename
    # What is to be made is not there yet: its folder refuses it.
    there = next((parent for parent in (Path(path), *Path(path).parents) if os.path.lexists(parent)), path)
    texts = {
        errno.ENOENT: f"{path} does not exist; check the path",
        errno.EACCES: f"{path}: no permission; change the owner or mode of {there}, or run this as its owner",
        errno.EISDIR: f"{path} is a folder; name a file",
        errno.ENOTDIR: f"{path} is not a folder; name a folder",
        errno.EEXIST: f"{path} exists; remove it, or name another path",
        errno.EROFS: f"{path} is on a read-only file system; name a path that can be written",
        errno.ENOSPC: f"{path}: no space is left on the disk; make room and run the command again",
    }
    texts[errno.EPERM] = texts[errno.EACCES]
    return texts.get(error.errno, f"{path}: {error.strerror}; check the path")


def one_line(text: str) -> str:
    """Join the lines of a text: with a space after a first line that ends with a colon, else with semicolons."""
    first, *others = [line.strip() for line in text.splitlines() if line.strip()] or ["it failed without a message"]
    return first + "".join((" " if n == 0 and first.endswith(":") else "; ") + line for n, line in enumerate(others))
