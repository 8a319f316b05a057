"""State in a bucket.

    blobs/<sha256>              files of content
    manifests/<name>.json       which files a content has; it is visible once this is there
    records/<name>              records
    predictions/, feedback/     files of others (nightly.state.received)
    parts/<name>                files that a job's workers have handed over to its driver
    sweep.json                  how many sweeps there have been

A name is a path below the state's folder, e.g. snapshots/<model>/<id> or nights/<model>/<run>/verdict.json.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nightly.io import variables
from nightly.io.locks import locked
from nightly.io.owned import owned_folder, owned_until_exit, remove_abandoned
from nightly.io.paths import Paths
from nightly.state.cache import Cache
from nightly.state.content import Content
from nightly.state.errors import StateError, StateNotReachedError
from nightly.state.names import is_among_records, is_record, local_path, name_of, session_paths
from nightly.state.objects import open_objects
from nightly.state.postgres_locks import locked_by_postgres
from nightly.state.received import receive, send
from nightly.state.records import INDEX, Copy

log = logging.getLogger("nightly")

VIEW_SECONDS = 3  # how old a view may be
VIEW_PATIENCE = 2  # seconds: a page shows what was there before, rather than wait for the bucket


class BucketState:
    """See nightly.state.base.State."""

    shared = True

    def __init__(self, address: str) -> None:
        self.objects = open_objects(address)
        self.cache = Cache()
        self.content = Content(self.objects, self.cache)
        self._lock_checks: list[Callable[[], None]] = []  # of the locks that this process holds
        self._viewed: dict[str, float] = {}  # model -> when its view was refreshed, by the monotonic clock

    @contextmanager
    def session(self, model: str) -> Iterator[Paths]:
        if outer := _session():
            if not outer.is_dir():
                raise StateError(f"The session in {outer} has ended, and {variables.SESSION.name} still names it.")
            copy = Copy(outer, model, self.content)
            if not copy.exists:
                copy.refresh()
            yield session_paths(outer)
            return
        self.cache.make_folders()
        remove_abandoned(self.cache.sessions.iterdir())
        with owned_folder(self.cache.sessions, f"{model}-") as folder, _environment(variables.SESSION.name, folder):
            Copy(folder, model, self.content).refresh()
            try:
                yield session_paths(folder)
            except BaseException:
                try:
                    self._commit(folder)
                except StateError as error:
                    log.error("what the step wrote before its error is lost: %s", error)
                raise
            self._commit(folder)

    def view(self, model: str) -> Paths:
        complete = self._view / f".complete-{model}"
        if time.monotonic() - self._viewed.get(model, -VIEW_SECONDS) >= VIEW_SECONDS or not complete.exists():
            self.cache.make_folders()
            content = Content(open_objects(self.objects.address, VIEW_PATIENCE), self.cache)
            copy = Copy(self._view, model, content)
            try:
                copy.refresh()
                complete.touch()
            except StateNotReachedError as error:
                if not complete.exists():  # an empty page would say that there are no nights
                    raise
                log.warning("the records of %s are shown as they were: %s", model, error)
            self._viewed[model] = time.monotonic()
        return session_paths(self._view)

    def refresh(self, folder: Path) -> None:
        name = self._name(folder)
        copies = _session() or self._view
        _, _, rest = name.partition("/")
        for model in [rest.partition("/")[0]] if rest else _models(copies):
            Copy(copies, model, self.content).refresh(name)

    def fetch(self, path: Path) -> None:
        name = self._name(path)
        if not is_record(name):
            self._hold(name)
            self.content.fetch(name)

    def hold(self, path: Path) -> None:
        self.cache.hold(self._holder, self._name(path))

    def publish(self, path: Path) -> None:
        name = self._name(path)
        if is_among_records(name):
            Copy(self._open_session(name), name.split("/")[1], self.content).push(name)
        else:
            self._hold(name)
            self.content.publish(name)

    def replace(self, path: Path) -> None:
        name = self._name(path)
        self._hold(name)
        self.content.publish(name, replace=True)

    def hand_over(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # a worker that does the same work has handed it over
            self.objects.upload(f"parts/{self._name(path)}", path)
            path.unlink()

    def collect(self, folder: Path) -> None:
        prefix = f"parts/{self._name(folder)}"
        for entry in self.objects.list(prefix):
            path = folder / entry.key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self.objects.download(entry.key, path)
            self.objects.delete(entry.key)

    def remove(self, path: Path) -> None:
        name = self._name(path)
        if not is_among_records(name):
            self.content.remove(name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def receive(self, folder: Path, select: Callable[[str, datetime], bool]) -> Path:
        name = self._name(folder)
        copies = self.cache.folder / "received" / name
        receive(self.objects, name, copies, select)
        return copies

    def address(self, folder: Path) -> str:
        return f"{self.objects.address.rstrip('/')}/{self._name(folder)}"

    def send(self, path: Path, folder: Path) -> None:
        send(self.objects, f"{self._name(folder)}/{path.name}", path)

    def restore(self, path: Path) -> bool:
        return self.content.restore(self._name(path))

    def size(self, path: Path) -> int:
        """Return the bytes of the published content at `path`; 0 if there is none."""
        manifest = self.content.manifest(self._name(path))
        return sum(file.bytes for file in manifest.files.values()) if manifest else 0

    def names(self, folder: Path) -> list[str]:
        return sorted({*self.content.names(self._name(folder)), *(path.name for path in folder.glob("*"))})

    @contextmanager
    def locked(
        self,
        path: Path,
        *,
        wait: bool = True,
        on_wait: Callable[[], object] = lambda: None,
        shared: bool = False,
    ) -> Iterator[None]:
        name = self._name(path)
        how: dict[str, Any] = {"wait": wait, "on_wait": on_wait, "shared": shared}
        with (
            locked(local_path(f"run/locks/{name}.lock"), **how),
            locked_by_postgres(f"{self.objects.address.rstrip('/')}/{name}", **how) as check,
        ):
            self._lock_checks.append(check)
            try:
                yield
            finally:
                self._lock_checks.remove(check)

    def check_locks(self) -> None:
        for check in list(self._lock_checks):
            check()

    @cached_property
    def _holder(self) -> Path:
        """A folder of this process beside the sessions: what it holds stays until the process ends."""
        remove_abandoned(self.cache.sessions.iterdir())
        return owned_until_exit(self.cache.sessions, "process-")

    @property
    def _view(self) -> Path:
        return self.cache.folder / "view"

    def _name(self, path: Path) -> str:
        return name_of(path, *filter(None, (_session(), self._view)))

    def _open_session(self, name: str) -> Path:
        session = _session()
        if session is None:
            raise StateError(f"{name} is a record, which changes only in a session; open one for its model.")
        return session

    def _hold(self, name: str) -> None:
        if session := _session():
            self.cache.hold(session, name)

    def _commit(self, folder: Path) -> None:
        """Commit the records of all models. Raises the first error at the end, and logs the others."""
        errors = []
        for model in _models(folder):
            try:
                Copy(folder, model, self.content).commit()
            except StateError as error:
                errors.append(error)
        for error in errors[1:]:
            log.error("%s", error)
        if errors:
            raise errors[0]


def _session() -> Path | None:
    """Return the folder of the session that this process or its parent has opened, or None."""
    value = variables.SESSION.read()
    return Path(value) if value else None


def _models(folder: Path) -> list[str]:
    """Return the models whose records are in a copy."""
    return [path.name.removeprefix(INDEX).removesuffix(".json") for path in folder.glob(f"{INDEX}*.json")]


@contextmanager
def _environment(name: str, value: Path) -> Iterator[None]:
    os.environ[name] = str(value)
    try:
        yield
    finally:
        os.environ.pop(name, None)
