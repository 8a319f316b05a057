"""A folder of a SavedModel's shape, for the tests of releases. Every file in it ends with its own hash."""

import hashlib
from pathlib import Path

from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore

FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
NOW = 1_700_000_000


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


def release(store: ReleaseStore, source: Path, run_id: str = "run-1", now: float = NOW) -> ReleaseRecord:
    return store.release(
        source,
        run_id=run_id,
        snapshot_id="5a17",
        code_version="c0ffee",
        requested_by="someone",
        metrics={"auc": 0.7},
        now=now,
    )
