"""Production goes back to an earlier version. The command is `bin/releases rollback`; Airflow's DAG `rollback` runs
`step`.

What was newer, be it a canary, is quarantined, on disk: so it survives a restart of the server, and no retry releases
it again. The version gone back to is then the one that the model gate compares with, and its snapshot's statistics are
the last that drift is measured against.
"""

import logging
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from nightly.baselines import withdraw_after
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.night import utc_now
from nightly.records.release import Rollback
from nightly.release.comparisons import comparisons, save_comparison
from nightly.release.errors import NotConfirmed, ProductionChanged, ReleaseError
from nightly.release.store import ANY, ReleaseStore
from nightly.release.targets import retire
from nightly.release.versions import LIVE
from nightly.serving.server import find_server

log = logging.getLogger("nightly")

REQUEST = "rollback.json"  # in the run's folder


def parse_version(text: str) -> int | None:
    """A version as people give it; None for `previous`. Raises ReleaseError."""
    if text.strip() == "previous":
        return None
    if not text.strip().isdecimal():
        raise ReleaseError(f"{text!r} is no version: give its number, or `previous`")
    return int(text)


def step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Do what `rollback.json` in the folder asks for. Again, it completes what was begun, and goes no further back."""
    return roll_back(paths, night_folder / REQUEST).model_dump(mode="json")


def roll_back(paths: Paths, request: Path) -> Rollback:
    """Do what the file `request` (contract Rollback) asks for, and write there what came of it.

    Raises ReleaseError, or ContractError for a model that is not there.
    """
    asked = Rollback.load(request)
    if asked.done_at is not None:
        log.info("%s was rolled back to %s already, at %s", asked.model, asked.version, asked.done_at)
        return asked
    if not asked.reason.strip():
        raise ReleaseError(f"{asked.model} is not rolled back without a reason")
    config = load_config(asked.model)
    store = ReleaseStore(paths.serving, paths.releases, asked.model)
    server = find_server(paths, asked.model, config.release)
    if asked.from_version is None:  # resolved once: `previous` means another version after half the work
        store.settle(server)  # a version that nobody has verified is no version to go back from
        with store.disk.locked():
            asked = _resolved(asked, store)
            asked.save(request)
    restored = store.disk.record(asked.version)
    why = f"rolled back to {asked.version} by {asked.requested_by}: {asked.reason}"
    not_confirmed: NotConfirmed | None = None
    try:
        store.roll_back(asked.version, why, server=server, production=asked.from_version if asked.previous else ANY)
    except ProductionChanged:  # a release ended between the two
        asked.model_copy(update={"version": None, "from_version": None, "withdrawn": []}).save(request)
        return roll_back(paths, request)
    except NotConfirmed as error:
        not_confirmed = error
    baselines = withdraw_after(paths.baselines, asked.model, restored.run_id, restored.snapshot_id)
    asked = asked.model_copy(update={"baselines": asked.baselines + [baseline.snapshot_id for baseline in baselines]})
    asked.save(request)
    for comparison in comparisons(paths, asked.model):
        if comparison.version in asked.withdrawn and not comparison.decision:
            stopped = comparison.decided("stop", why, asked.requested_by)
            save_comparison(paths, stopped.model_copy(update={"done_at": utc_now()}))
    retire(config, store)
    if not_confirmed:  # another try asks the server again, and does no more on disk
        raise not_confirmed
    done = asked.model_copy(update={"server": server.address, "done_at": utc_now()})
    done.save(_unused(paths.releases / asked.model / "rollbacks"))
    done.save(request)
    log.info("%s is rolled back from %s to %s: %s", done.model, done.from_version, done.version, done.reason)
    return done


def roll_back_now(paths: Paths, asked: Rollback) -> Rollback:
    """Do what `asked` says, for a person at a command line. Raises as `roll_back` does."""
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
        return roll_back(paths, asked.save(Path(folder) / REQUEST))


def _unused(folder: Path) -> Path:
    """A name of its own for each record: two rollbacks may end in one second."""
    return next(path for second in count(int(time.time())) if not (path := folder / f"{second}.json").exists())


def _resolved(asked: Rollback, store: ReleaseStore) -> Rollback:
    versions = store.disk.released()
    if not versions:
        raise ReleaseError(f"{asked.model} has no version in production in {store.disk.folder}: there is no way back")
    if asked.version is None:
        if len(versions) < 2:
            raise ReleaseError(
                f"{asked.model} {versions[0]} is the only version in {store.disk.folder}: there is no previous one. "
                "Quarantined ones are listed by `bin/releases list`."
            )
        asked = asked.model_copy(update={"version": versions[-2], "previous": True})
    elif asked.version not in versions:
        record = store.disk.record(asked.version)  # raises for one that never was
        there = ", ".join(map(str, versions))
        raise ReleaseError(
            f"{asked.model} {asked.version} is {record.state}: it cannot be gone back to, but {there} can"
        )
    newer = [r.version for r in store.disk.records() if r.version > asked.version and r.state in LIVE]
    return asked.model_copy(update={"from_version": versions[-1], "withdrawn": newer})
