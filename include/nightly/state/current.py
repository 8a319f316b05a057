"""The state that NIGHTLY_STATE names, for this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from nightly.io import variables
from nightly.state.base import State
from nightly.state.folder import FolderState


def current() -> State:
    """Return the state that the environment names now. Raises StateAddressError for an address of another kind."""
    address = variables.STATE.read()
    if "://" not in address:
        return FolderState()
    return _bucket(address, os.getpid())


def fetch(path: Path) -> None:
    """See State.fetch."""
    current().fetch(path)


def publish(path: Path) -> None:
    """See State.publish."""
    current().publish(path)


def remove(path: Path) -> None:
    """See State.remove."""
    current().remove(path)


@contextmanager
def unshared() -> Iterator[None]:
    """Have the state be a folder until the block ends: for data in temporary folders, which no night uses."""
    address = variables.STATE.read()
    if "://" in address:
        del os.environ[variables.STATE.name]
    try:
        yield
    finally:
        if address:
            os.environ[variables.STATE.name] = address


@cache
def _bucket(address: str, process: int) -> State:
    """Return the state in a bucket. A client does not survive a fork, so each process has its own."""
    from nightly.state.bucket import BucketState

    return BucketState(address)
