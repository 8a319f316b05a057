"""The payloads of old runs' artifacts go; what ML Metadata knows of them stays."""

import contextlib
import logging
import shutil
from pathlib import Path

from nightly.io.paths import Paths
from nightly.nights.snapshot import retain
from nightly.records.config import ModelConfig
from nightly.release.store import ReleaseStore
from nightly.tfx.metadata import Artifact, NightlyMetadata

log = logging.getLogger("nightly")


def prune_model(paths: Paths, config: ModelConfig) -> str:
    """Remove what a night removes in its steps `release`, `snapshot` and `examples`, and return what, in words.

    Each is done, whichever of those steps a night has no room for.
    """
    versions = ReleaseStore(paths.serving, paths.releases, config.name).retain(config.release.keep)
    snapshots = retain(paths, config, set())
    with NightlyMetadata(paths, config.name) as handle:
        artifacts = prune(handle, paths.pipeline / config.name, config.retention.runs)
    return f"{len(versions)} versions, {len(snapshots)} snapshots and {artifacts} artifacts"


def prune(handle: NightlyMetadata, root: Path, keep: int) -> int:
    """Remove the artifacts of all but the newest `keep` runs in the pipeline's folder `root`; returns how many.

    A run whose artifacts are gone can be looked at, and be run again from its beginning, but not from its middle. What
    outlives a run lies elsewhere: snapshots, baselines, released versions.
    """
    runs = sorted(handle.store.get_contexts_by_type("pipeline_run"), key=lambda run: run.create_time_since_epoch)
    of_runs = [handle.store.get_artifacts_by_context(run.id) for run in runs]
    # Where ML Metadata is one database for all models, it has the other models' runs too, and one run id may be of two.
    here = [[artifact for artifact in of_run if root in Path(artifact.uri).parents] for of_run in of_runs]
    removed = []
    for artifacts in [of_run for of_run in here if of_run][:-keep]:
        for artifact in artifacts:
            payload = Path(artifact.uri)
            if artifact.state == Artifact.DELETED:
                continue
            shutil.rmtree(payload, ignore_errors=True)
            with contextlib.suppress(OSError):
                payload.unlink(missing_ok=True)  # a value's artifact is a file
            artifact.state = Artifact.DELETED
            removed.append(artifact)
    if removed:
        handle.store.put_artifacts(removed)
        log.info("removed %d artifacts of runs before the last %d", len(removed), keep)
    return len(removed)
