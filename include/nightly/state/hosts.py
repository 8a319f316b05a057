"""What all hosts of a shared state must have in common."""

from pathlib import Path

from nightly.state.current import current
from nightly.state.errors import StateAddressError


def check_path(path: Path, folder: Path) -> None:
    """Raise StateAddressError if `path`, which another host has recorded, is not in the same `folder` on this host."""
    if current().shared and not path.is_relative_to(folder):
        raise StateAddressError(
            f"another host has recorded {path}, which is not below {folder} here: with the state in a bucket, "
            "NIGHTLY_VAR is the same path on every host that runs a step"
        )
