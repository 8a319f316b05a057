"""Where a release goes beyond the serving volume: what the model's config names under `[release]`.

The local release comes first and stands by itself. A target that fails makes the step fail, and a retry of the step
releases nothing anew: it takes up publishing where that stopped.
"""

import logging
from pathlib import Path
from typing import Any, Protocol

from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore

log = logging.getLogger("nightly")


class ReleaseTarget(Protocol):
    """A place that releases are published to. Each method can be repeated, and completes what a killed one left."""

    name: str

    def publish(self, record: ReleaseRecord, folder: Path) -> dict[str, Any]:
        """Make `record`, whose files are in `folder`, the current version there; gives what to record of it.

        Raises NotPublished.
        """

    def retire(self, records: list[ReleaseRecord]) -> list[int]:
        """Follow the serving volume, given all its records: what was quarantined or removed there goes here too.

        The current version and the one before it never go for their age. Gives the versions retired.
        """


def release_targets(config: ModelConfig, store: ReleaseStore) -> list[ReleaseTarget]:
    """Those that are configured for the releases of `store`, in the order in which they are published to."""
    if not config.release.gcs:
        return []
    from nightly.release.google_cloud.gcs import GcsReleases

    gcs = GcsReleases(config.release.gcs, config.name, store)
    if config.release.vertex is None:
        return [gcs]
    from nightly.release.google_cloud.vertex import VertexModel

    return [gcs, VertexModel(config.release.vertex, config.name, artifacts=gcs.uri)]


def publish(config: ModelConfig, store: ReleaseStore, record: ReleaseRecord) -> ReleaseRecord:
    """Publish what is in production to every target, and note in its record what came of it. Raises NotPublished."""
    targets = release_targets(config, store)
    if targets and record.version != store.disk.production():
        log.warning("%s %s is not in production any more: it is not published", record.model, record.version)
        return record
    for target in targets:
        said = target.publish(record, store.disk.find(record.version))
        record = store.note(record.version, {target.name: said})
        log.info("%s %s is published: %s", record.model, record.version, said)
    retire(config, store)
    return record


def retire(config: ModelConfig, store: ReleaseStore) -> None:
    """Take from every target what was rolled back or has grown old. Raises NotPublished."""
    for target in reversed(release_targets(config, store)):  # what refers to files goes before the files
        if gone := target.retire(store.disk.records()):
            log.info("%s: retired %s", target.name, ", ".join(map(str, gone)))
