"""Roll production back to an earlier version: `bin/releases rollback`, or `step` in Airflow's DAG `rollback`.

Newer versions, including a canary, are quarantined on disk. So the rollback survives a restart of the server, and no
retry releases them again. From then on the model gate compares with the restored version, and drift is measured against
no later statistics than those of its snapshot.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightly.baselines import withdraw_after
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.night import utc_now
from nightly.records.release import Rollback
from nightly.release.comparisons import end_comparisons
from nightly.release.errors import NotConfirmed, NotPublished, ProductionChanged, ReleaseError
from nightly.release.store import ANY, ReleaseStore
from nightly.release.targets import retire
from nightly.release.versions import LIVE
from nightly.serving.server import find_server
from nightly.state import publish

log = logging.getLogger("nightly")


def parse_version(text: str) -> int | None:
    """Parse a version number; `previous` gives None. Raises ReleaseError."""
    if text.strip() == "previous":
        return None
    if not text.strip().isdecimal():
        raise ReleaseError(f"{text!r} is not a version: give its number, or `previous`")
    return int(text)


def step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Carry out `rollback.json` in the folder. A second call completes an interrupted one and goes no further back."""
    return roll_back(paths, night_folder / Rollback.FILE, publish).model_dump(mode="json")


def roll_back(paths: Paths, path: Path, written: Callable[[Path], object] = lambda path: None) -> Rollback:
    """Carry out the file `path` (a Rollback record), and write the result to it.

    `written` is called after each change of the file, for a retry on another host.
    Raises ReleaseError, or ContractError for an unknown model.
    """
    rollback = Rollback.load(path)
    if rollback.done_at is not None:
        log.info("%s was rolled back to %s already, at %s", rollback.model, rollback.version, rollback.done_at)
        return rollback
    if not rollback.reason.strip():
        raise ReleaseError(f"{rollback.model} is not rolled back without a reason")
    config = load_config(rollback.model)
    store = ReleaseStore(paths.serving, paths.releases, rollback.model)
    server = find_server(paths, rollback.model, config.release)
    if rollback.from_version is None:  # resolved only once, because `previous` changes its meaning during the rollback
        store.settle(server)  # an unverified version never was in production
        with store.disk.locked():
            rollback = _resolved(rollback, store)
            rollback.save(path)
            written(path)
    restored = store.disk.record(rollback.version)
    why = f"rolled back to {rollback.version} by {rollback.requested_by}: {rollback.reason}"
    not_confirmed: NotConfirmed | None = None
    try:
        store.roll_back(
            rollback.version, why, server=server, production=rollback.from_version if rollback.previous else ANY
        )
    except ProductionChanged:  # a release ended between the two
        rollback.model_copy(update={"version": None, "from_version": None, "withdrawn": []}).save(path)
        return roll_back(paths, path, written)
    except NotConfirmed as error:
        not_confirmed = error
    baselines = withdraw_after(paths.baselines, rollback.model, restored.run_id, restored.snapshot_id)
    rollback = rollback.model_copy(
        update={
            "baselines": rollback.baselines + [baseline.snapshot_id for baseline in baselines],
            "began_at": rollback.began_at or utc_now(),  # an older version did not record it
        }
    )
    rollback.save(path)
    rollback.save(_listed(paths, rollback))  # production has changed, whoever is not reached below
    written(path)
    end_comparisons(paths, rollback.model, rollback.withdrawn, why, rollback.requested_by)
    retire(config, store)
    if not_confirmed:  # a retry asks the server again, and changes nothing on disk
        raise not_confirmed
    done = rollback.model_copy(update={"server": server.address, "done_at": utc_now()})
    done.save(_listed(paths, done))
    done.save(path)
    log.info("%s is rolled back from %s to %s: %s", done.model, done.from_version, done.version, done.reason)
    return done


def roll_back_now(paths: Paths, rollback: Rollback) -> Rollback:
    """Carry out a rollback from a command line. Raises as `roll_back` does.

    If a target cannot be updated, NotPublished says how to retry: `previous` would go one version further back.
    """
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
        path = rollback.save(Path(folder) / Rollback.FILE)
        try:
            return roll_back(paths, path)
        except NotPublished as error:
            version, bucket = Rollback.load(path).version, load_config(rollback.model).release.gcs
            raise NotPublished(
                f"{rollback.model} is rolled back to {version}, and {bucket} is not updated: "
                f"{error.__cause__ or error}. To update it, run bin/releases rollback {rollback.model} {version} "
                '--reason "…"'
            ) from error


def _listed(paths: Paths, rollback: Rollback) -> Path:
    """Return the rollback's path among the model's. Two in the same second start from different versions."""
    seconds = int(rollback.began_at.timestamp())
    return paths.releases / rollback.model / "rollbacks" / f"{seconds}-{rollback.from_version}.json"


def _resolved(rollback: Rollback, store: ReleaseStore) -> Rollback:
    versions = store.disk.released()
    if not versions:
        raise ReleaseError(
            f"{rollback.model} has no version in production in {store.disk.folder}: there is nothing to roll back"
        )
    if rollback.version is None:
        if len(versions) < 2:
            raise ReleaseError(
                f"{rollback.model} {versions[0]} is the only version in {store.disk.folder}: there is no previous one. "
                "Quarantined ones are listed by `bin/releases list`."
            )
        rollback = rollback.model_copy(update={"version": versions[-2], "previous": True})
    elif rollback.version not in versions:
        record = store.disk.record(rollback.version)  # raises for an unknown version
        existing = ", ".join(map(str, versions))
        raise ReleaseError(
            f"{rollback.model} {rollback.version} is {record.state}: production can only go back to {existing}"
        )
    newer = [r.version for r in store.disk.records() if r.version > rollback.version and r.state in LIVE]
    return rollback.model_copy(update={"from_version": versions[-1], "withdrawn": newer, "began_at": utc_now()})
