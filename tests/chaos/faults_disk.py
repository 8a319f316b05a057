"""Disks that are full or slow, files that change or vanish, databases that somebody else has locked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

from nightly.records.night import SnapshotRef
from nightly.release.store import ReleaseStore
from tests.chaos.faults import NotNow, Strike, fault
from tests.chaos.world import MODEL

BALLAST = ".ballast"
SLOW_BYTES = 8 * 2**20  # written and synced again and again


def _fill(folder: Path) -> Path:
    """Take all that is free on the disk of `folder`; returns the file that holds it."""
    path = folder / BALLAST
    with path.open("wb") as file:
        size = shutil.disk_usage(folder).free
        while size:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    return path


def _full_disk(strike: Strike) -> str:
    ballast = _fill(strike.world.paths.var)
    try:
        seconds = strike.wait(10, 40)
    finally:
        ballast.unlink()
    return f"var/ was full for {seconds:.0f} s"


fault("full disk", needs="disk")(_full_disk)
fault("full disk at a large write", needs="disk", at=("snapshot", "examples", "trainer", "release"))(_full_disk)


@fault("slow disk")
def _slow_disk(strike: Strike) -> str:
    """Another writes beside, and syncs each time, where Airflow has its database and its logs."""
    seconds, path = strike.dice.uniform(15, 40), strike.world.home / BALLAST
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            with path.open("wb") as file:
                file.write(os.urandom(SLOW_BYTES))
                os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return f"another wrote and synced beside for {seconds:.0f} s"


# --- files


def _night(strike: Strike) -> Path:
    return strike.world.paths.night(MODEL, strike.run_id)


def _snapshot(strike: Strike) -> list[Path]:
    path = _night(strike) / "snapshot.json"
    if not path.exists():
        return []
    return sorted(path for path in Path(SnapshotRef.load(path).path).iterdir() if path.is_file())


def _artifact(output: str, pattern: str) -> Callable[[Strike], list[Path]]:
    """The files of the newest artifact of an output that this night has."""

    def files(strike: Strike) -> list[Path]:
        request = _night(strike) / "request.json"
        if not request.exists():
            return []
        made = [(path.stat().st_mtime, path) for path in (strike.world.paths.pipeline / MODEL / output).glob("*/")]
        _, newest = max((entry for entry in made if entry[0] > request.stat().st_mtime), default=(0, None))
        return [path for path in newest.rglob(pattern) if path.is_file()] if newest else []

    return files


def _production(strike: Strike) -> list[Path]:
    paths = strike.world.paths
    version = ReleaseStore(paths.serving, paths.releases, MODEL).disk.production()
    folder = paths.serving / MODEL / str(version)
    return [path for path in folder.rglob("*") if path.is_file()] if version else []


def _baseline(strike: Strike) -> list[Path]:
    """The files of the last accepted snapshot's statistics."""
    folders = sorted((strike.world.paths.baselines / MODEL).glob("[0-9]*/"))
    return [path for path in folders[-1].rglob("*") if path.is_file()] if folders else []


KINDS: dict[str, tuple[Callable[[Strike], list[Path]], tuple[str, ...]]] = {
    "snapshot": (_snapshot, ("examples",)),
    "examples": (_artifact("examples/examples", "*"), ("transform", "trainer")),
    "schema": (_artifact("schema/schema", "schema.pbtxt"), ("example_validator", "transform", "trainer")),
    "statistics": (_artifact("statistics/statistics", "*"), ("example_validator", "drift_skew", "data_gate")),
    "anomalies": (_artifact("example_validator/anomalies", "*"), ("drift_skew", "data_gate")),
    "transform graph": (_artifact("transform/transform_graph", "*"), ("trainer", "evaluator")),
    "transformed examples": (_artifact("transform/transformed_examples", "*"), ("trainer",)),
    "trained model": (_artifact("trainer/model", "*"), ("evaluator", "infra_validator", "release")),
    "evaluation": (_artifact("evaluator/evaluation", "*"), ("infra_validator", "model_gate")),
    "servable": (_artifact("infra_validator/servable", "*"), ("model_gate", "release")),
    "baseline": (_baseline, ("drift_skew", "data_gate")),
    "production model": (_production, ()),
}


def _flip(path: Path, strike: Strike) -> str:
    """Turn one byte of a file over, in place, whatever its mode; returns what the file's hash is now."""
    mode = stat.S_IMODE(path.stat().st_mode)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.chmod(mode | stat.S_IWUSR)
    with path.open("r+b") as file:
        at = strike.dice.randrange(path.stat().st_size)
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))
    path.chmod(mode)
    os.utime(path, ns=times)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _note_damage(kind: str, path: Path, strike: Strike) -> None:
    """Before it is done: the checks look on all the time."""
    if kind == "snapshot":
        strike.ledger.damaged_snapshots[path.parent.name] = time.time()
    if kind == "production model":
        relative = path.relative_to(strike.world.paths.serving / MODEL)
        strike.ledger.damaged_versions.add(int(relative.parts[0]))


def _damage(kind: str, delete: bool) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        files = [path for path in KINDS[kind][0](strike) if path.stat().st_size]
        if not files:
            raise NotNow(f"there is no {kind} yet")
        path = strike.dice.choice(sorted(files))
        _note_damage(kind, path, strike)
        if delete:
            path.unlink()
            return f"{path} was deleted"
        damaged = _flip(path, strike)
        if kind == "trained model":
            strike.ledger.damaged_files.add(damaged)
        return f"a byte of {path} was flipped"

    return does


for kind, (_, tasks) in KINDS.items():
    fault(f"flip a byte of the {kind}", at=tasks, apart=True)(_damage(kind, delete=False))
    fault(f"delete a file of the {kind}", at=tasks, apart=True)(_damage(kind, delete=True))


# --- databases


def _lock_sqlite(name: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        if not strike.world.sqlite(name).exists():
            raise NotNow(f"the database {name} is not there yet")
        with contextlib.closing(
            sqlite3.connect(strike.world.sqlite(name), timeout=30, isolation_level=None)
        ) as session:
            session.execute("BEGIN EXCLUSIVE")
            seconds = strike.wait(5, 40)
            session.execute("ROLLBACK")
        return f"the database {name} was locked for {seconds:.0f} s"

    return does


def _lock_postgresql(name: str, table: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        import psycopg2

        try:
            session = psycopg2.connect(strike.world.database.url(name))
            session.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        except psycopg2.OperationalError as error:
            raise NotNow(f"PostgreSQL is away: {error}") from error
        with contextlib.closing(session):
            seconds = strike.wait(5, 40)
            with contextlib.suppress(psycopg2.OperationalError):  # another fault has killed the server
                session.rollback()
        return f"{table} of the database {name} was locked for {seconds:.0f} s"

    return does


fault("lock Airflow's SQLite", needs="sqlite")(_lock_sqlite("airflow"))
fault("lock ML Metadata's SQLite", needs="sqlite")(_lock_sqlite("mlmd"))
fault("lock Airflow's task_instance", needs="postgresql")(_lock_postgresql("airflow", "task_instance"))
fault("lock ML Metadata's execution", needs="postgresql")(_lock_postgresql("mlmd", "execution"))
