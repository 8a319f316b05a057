"""State in a folder of this host, or of a volume that all hosts mount: what is written there is published."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from nightly.io.locks import locked
from nightly.io.paths import Paths
from nightly.state.errors import StateAddressError


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

    def hold(self, path: Path) -> None:
        pass

    def publish(self, path: Path) -> None:
        pass

    def replace(self, path: Path) -> None:
        pass

    def restore(self, path: Path) -> bool:
        return False

    def hand_over(self, path: Path) -> None:
        pass

    def collect(self, folder: Path) -> None:
        pass

    def remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def receive(self, folder: Path, select: Callable[[str, datetime], bool]) -> Path:
        return folder

    def address(self, folder: Path) -> str:
        return str(folder)

    def send(self, path: Path, folder: Path) -> None:
        raise StateAddressError(
            f"the state is a folder, where clients write to {folder} themselves; set NIGHTLY_STATE to the bucket."
        )

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.glob("*"))

    @contextmanager
    def locked(
        self,
        path: Path,
        *,
        wait: bool = True,
        on_wait: Callable[[], object] = lambda: None,
        shared: bool = False,
    ) -> Iterator[None]:
        with locked(path, wait=wait, on_wait=on_wait, shared=shared):
            yield

    def check_locks(self) -> None:
        pass
