"""Remove the files of old runs' artifacts, but keep their records in ML Metadata."""

import contextlib
import logging
import re
import shutil
import time
from pathlib import Path

from nightly.io.paths import Paths, safe_name
from nightly.nights.download import remove_old
from nightly.nights.snapshot import retain
from nightly.nights.unfinished import ABANDONED, unfinished
from nightly.records.config import ModelConfig
from nightly.records.night import Night
from nightly.release.store import ReleaseStore
from nightly.state import current, remove
from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata
from nightly.tfx.pipeline import pinned_models, pinned_run

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = logging.getLogger("nightly")


def prune_model(paths: Paths, config: ModelConfig) -> str:
    """Apply all of a model's retention at once, and return a summary.

    A night does this in its steps `release`, `download`, `snapshot` and `examples`, which may fail on a full disk.
    """
    versions = ReleaseStore(paths.serving, paths.releases, config.name).retain(config.release.keep)
    snapshots = retain(paths, config, set())
    bodies = remove_old(paths, config.name)
    with NightlyMetadata(paths, config.name) as handle:
        artifacts = prune(handle, paths, config.name, config.retention.runs)
    return f"{len(versions)} versions, {len(snapshots)} snapshots, {bodies} bodies and {artifacts} artifacts"


def prune(handle: NightlyMetadata, paths: Paths, model: str, keep: int) -> int:
    """Remove the artifacts of a model's old runs; return how many.

    The last `keep` runs that wrote an artifact keep theirs, and so does every run whose night is unfinished. A pruned
    run can still be inspected and rerun from the beginning, but not from the middle. Snapshots, baselines and released
    versions lie elsewhere and stay.
    """
    root, active = paths.pipeline / model, {folder.name for folder in unfinished(paths.nights / model)}
    contexts = handle.store.get_contexts_by_type("pipeline_run")
    runs = {run.name: handle.store.get_artifacts_by_context(run.id) for run in contexts}
    # All models share one PostgreSQL metadata database and run ids may collide: the folder identifies the model.
    own = {name: [a for a in artifacts if root in Path(a.uri).parents] for name, artifacts in runs.items()}
    # Its newest artifact tells when a run was last at work. Its context is as old as its first try.
    by_use = sorted((name for name in own if own[name]), key=lambda name: max(a.id for a in own[name]))
    old = [a for name in by_use[:-keep] if safe_name(name) not in active for a in own[name]]
    removed = [artifact for artifact in old if artifact.state != Artifact.DELETED]
    for artifact in removed:
        with contextlib.suppress(OSError):
            remove(Path(artifact.uri))
        artifact.state = Artifact.DELETED
    if removed:
        handle.store.put_artifacts(removed)
        log.info("removed %d artifacts of runs before the last %d", len(removed), keep)
    _remove_pinned(paths, model, active | {safe_name(name) for name in by_use[-keep:]})
    return len(removed)


def _remove_pinned(paths: Paths, model: str, kept: set[str]) -> None:
    """Remove the pinned production models of all nights that this process knows but those in `kept`.

    ML Metadata does not know the one of a night that ended before its evaluator.
    """
    ended = {request.parent.name for request in (paths.nights / model).glob(f"*/{Night.FILE}")} - kept
    folder = pinned_models(paths, model)
    for name in current().names(folder):
        if pinned_run(name) in ended:
            with contextlib.suppress(OSError):
                remove(folder / name)


def remove_leftovers(handle: NightlyMetadata, root: Path) -> None:
    """Remove from this host what executions that have ended left in the pipeline's folder `root`.

    That is what the workers of a Beam job wrote after its execution failed or was canceled, since they may live on for
    a while after their driver died; and TFX's own folders of all that ended, with the temporary files of a killed job.
    Earlier versions gave working folders random names, which no execution reads any more: they go after ABANDONED.
    """
    outputs = [folder for folder in root.glob("*/*/*") if folder.name.isdecimal()]
    system = [folder for folder in root.glob("*/.system/*/*") if folder.name.isdecimal()]
    executions = handle.store.get_executions_by_id({int(folder.name) for folder in (*outputs, *system)})
    states = {execution.id: execution.last_known_state for execution in executions}
    for folder in outputs:
        if states.get(int(folder.name)) in (Execution.CANCELED, Execution.FAILED):
            remove(folder)
            log.info("removed %s, which was written after its node had ended", folder)
    for folder in system:
        if states.get(int(folder.name), Execution.RUNNING) not in (Execution.NEW, Execution.RUNNING):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in root.glob("*/.system/stateful_working_dir/*"):
        if UUID.fullmatch(folder.name) and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Return whether nothing in the folder has changed for as long as no unfinished night rests."""
    oldest = time.time() - ABANDONED.total_seconds()
    try:
        return all(path.lstat().st_mtime < oldest for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:  # something works in it
        return False
