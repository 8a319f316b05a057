"""Releases without TensorFlow: folders of a SavedModel's shape, whose files end with their own hash, and servers."""

import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nightly.records.release import Origin, ReleaseRecord, Verification
from nightly.release.store import ReleaseStore

FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
NOW = 1_700_000_000
FORK = get_context("fork")


def export(folder: Path, seed: str = "a", kilobytes: int = 16) -> Path:
    """Write a model whose files differ with `seed`; `assets/` stays empty, as in most SavedModels."""
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = hashlib.sha256(f"{seed}/{name}".encode()).digest() * (32 * kilobytes)
        path.write_bytes(body + hashlib.sha256(body).digest())
    (folder / "assets").mkdir(exist_ok=True)
    return folder


def whole(version: Path) -> bool:
    """All files are there and unbroken: what a server that reads the version at this moment would get."""
    try:
        bodies = [(version / name).read_bytes() for name in FILES]
    except OSError:
        return False
    return all(hashlib.sha256(body[:-32]).digest() == body[-32:] for body in bodies)


def names(folder: Path) -> list[str]:
    """What is in `folder`, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def loadable(folder: Path) -> list[int]:
    """What TensorFlow Serving would load: children that parse as an integer."""
    numbers = []
    for name in names(folder) if folder.exists() else []:
        try:
            numbers.append(int(name))
        except ValueError:
            continue
    return sorted(numbers)


def origin(run_id: str = "run-1", recipe: str = "") -> Origin:
    return Origin(
        run_id=run_id,
        snapshot_id="5a17",
        code_version="c0ffee",
        requested_by="someone",
        metrics={"auc": 0.7},
        recipe=recipe,
    )


def release(store: ReleaseStore, source: Path, run_id: str = "run-1", now: float = NOW) -> ReleaseRecord:
    return store.release(source, origin(run_id), now=now)


class ApprovingServer:
    """Answers for every version, and forgets what it should serve."""

    address = "grpc://server"

    def check(self) -> None:
        pass

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        figures = {"golden_examples": 1, "largest_difference": 0, "tolerance": 0, "p99_ms": 1, "seconds": 1}
        now = dt.datetime.now(dt.UTC)
        return Verification(server=self.address, previous_p99_ms=None, verified_at=now, **figures)

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        pass


class Server(ApprovingServer):
    """Keeps in files which versions have the labels `stable` and `canary`."""

    def __init__(self, store: ReleaseStore) -> None:
        self.stable = store.disk.releases.parent / "stable"
        self.canary = store.disk.releases.parent / "canary"

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        for labelled in (version, canary):
            assert labelled in (None, *loadable), "a label of a version that is not there fails all its clients"
        self.stable.write_text(str(version))
        self.canary.write_text(str(canary))


def verified(
    store: ReleaseStore,
    source: Path,
    run_id: str = "run-1",
    share: float | None = None,
    server: Server | None = None,
) -> ReleaseRecord:
    return store.release(source, origin(run_id), now=NOW, server=server or Server(store), canary_share=share)


@contextmanager
def watching(folder: Path) -> Iterator[list[Any]]:
    """A server in a process of its own: polls `folder`, reads each version when it appears. Gives what it saw."""
    answers = FORK.Queue()
    stop = FORK.Event()

    def poll() -> None:
        seen, broken, emptied, backwards, polls = set(), [], 0, 0, 0
        while not stop.is_set() or polls == 0:
            there = loadable(folder)
            polls += 1
            new = [version for version in there if version not in seen]
            # What retention took away between the listing and the reading was old: the server has it in memory.
            broken += [v for v in new if not whole(folder / str(v)) and (folder / str(v)).exists()]
            backwards += any(seen and version < max(seen) for version in new)
            seen.update(there)
            emptied += bool(seen) and not there
        answers.put([sorted(seen), broken, emptied, backwards, polls])

    watcher = FORK.Process(target=poll)
    watcher.start()
    saw: list[Any] = []
    try:
        yield saw
    finally:
        stop.set()
        saw += answers.get(timeout=60)
        watcher.join()
