"""Temporary folders of steps and commands, for what TensorFlow and Beam leave in TMPDIR when they are killed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightly.io.owned import owned_folder, remove_abandoned

PREFIX = "nightly-step-"


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in `parent`, and remove it when the block ends. First remove those of killed processes."""
    remove_abandoned(parent.glob(f"{PREFIX}*"))
    with owned_folder(parent, f"{PREFIX}{name}-") as folder:
        yield folder


@contextmanager
def own_temporary_folder(name: str) -> Iterator[None]:
    """Have this process, and those that it starts, write temporary files to a scratch folder."""
    before = os.environ.get("TMPDIR")
    with scratch_folder(Path(tempfile.gettempdir()), name) as folder:
        _use(str(folder))
        try:
            yield
        finally:
            _use(before)


def _use(folder: str | None) -> None:
    os.environ.pop("TMPDIR", None)
    if folder is not None:
        os.environ["TMPDIR"] = folder
    tempfile.tempdir = None  # read TMPDIR again
