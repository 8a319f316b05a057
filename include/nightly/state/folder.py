"""State in a folder of this host, or of a volume that all hosts mount: what is written there is published."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nightly.io.locks import locked
from nightly.io.paths import Paths


class FolderState:
    """See nightly.state.base.State."""

    shared = False

    @contextmanager
    def session(self, model: str) -> Iterator[Paths]:
        yield Paths.from_environment()

    def view(self, model: str) -> Paths:
        return Paths.from_environment()

    def refresh(self, folder: Path) -> None:
        pass

    def fetch(self, path: Path) -> None:
        pass

    def publish(self, path: Path) -> None:
        pass

    def hand_over(self, path: Path) -> None:
        pass

    def collect(self, folder: Path) -> None:
        pass

    def remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self, path: Path, *, wait: bool = True, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
        with locked(path, wait=wait, on_wait=on_wait):
            yield
