"""The state that NIGHTLY_STATE names, for this process."""

from functools import cache
from pathlib import Path

from nightly.io import variables
from nightly.state.base import State
from nightly.state.folder import FolderState


def current() -> State:
    """Return the state that the environment names now. Raises StateAddressError for an address of another kind."""
    return _state(variables.STATE.read())


def fetch(path: Path) -> None:
    """See State.fetch."""
    current().fetch(path)


def publish(path: Path) -> None:
    """See State.publish."""
    current().publish(path)


def remove(path: Path) -> None:
    """See State.remove."""
    current().remove(path)


@cache
def _state(address: str) -> State:
    return FolderState()
