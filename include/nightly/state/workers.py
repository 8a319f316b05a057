"""What a job's workers read and write of the state, on whatever host they run.

A worker fetches content that is published. It writes a file of content that is not, and hands it over to the job's
driver, which collects all of them when the job is done. In a folder that all hosts see, both cost nothing.

Imports neither TensorFlow nor TFX, since workers import this module.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nightly.io import variables
from nightly.io.paths import Paths
from nightly.state.current import current

PART = ".part-"  # of the name of a file that is not complete


def _driver() -> dict[str, str]:
    paths = Paths.from_environment()
    folders = {variable.name: str(getattr(paths, name)) for name, variable in variables.FOLDER_VARIABLES.items()}
    shared = {name: path for name, path in folders.items() if name in os.environ}
    return {variables.STATE.name: variables.STATE.read(), variables.VAR.name: str(paths.var), **shared}


@dataclass(frozen=True)
class WorkerState:
    """The state as the job's driver names it. A worker may name it by environment variables of its own."""

    environment: dict[str, str] = field(default_factory=_driver)

    def fetch(self, *contents: str) -> None:
        """Have the content at these paths complete on this worker's host, until the worker ends."""
        self._name_state()
        for content in contents:
            _fetched(content)

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield the path of a new file. At the end it is `path`, and the driver can collect it.

        A worker may do the same work twice, also at the same time: then the files are the same.
        """
        self._name_state()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{PART}{uuid.uuid4().hex}")
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        current().hand_over(path)

    def _name_state(self) -> None:
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)


def collect(folder: Path) -> None:
    """Have all files that the workers wrote below `folder` on the driver's host, after the job."""
    current().collect(folder)
    for part in folder.rglob(f"{PART}*"):  # of a worker that died
        part.unlink(missing_ok=True)


@cache
def _fetched(content: str) -> None:
    state, path = current(), Path(content)
    state.hold(path)  # a worker has no session
    state.fetch(path)
