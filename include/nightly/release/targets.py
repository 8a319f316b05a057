"""The targets that a release is published to after the serving volume, as `[release]` in the model's config says.

The local release comes first and does not depend on them. If a target fails, the step fails; a retry of the step
releases nothing new, but continues to publish.
"""

import logging
from pathlib import Path
from typing import Any, Protocol

from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore

log = logging.getLogger("nightly")


class ReleaseTarget(Protocol):
    """A target of releases. Each method can be repeated, and completes the work of a killed call."""

    name: str

    def publish(self, record: ReleaseRecord, folder: Path) -> dict[str, Any]:
        """Make `record`, whose files are in `folder`, the target's current version; return details for the record.

        Raises NotPublished.
        """

    def retire(self, records: list[ReleaseRecord]) -> list[int]:
        """Remove the versions that these records of the serving volume have as quarantined or removed; return them.

        The current version and the one before it are never removed for their age.
        """


def release_targets(config: ModelConfig, store: ReleaseStore) -> list[ReleaseTarget]:
    """Return the configured targets, in the order of publishing."""
    if not config.release.gcs:
        return []
    from nightly.release.google_cloud.gcs import GcsReleases

    gcs = GcsReleases(config.release.gcs, config.name, store)
    if config.release.vertex is None:
        return [gcs]
    from nightly.release.google_cloud.vertex import VertexModel

    return [gcs, VertexModel(config.release.vertex, config.name, artifacts=gcs.uri)]


def publish(config: ModelConfig, store: ReleaseStore, record: ReleaseRecord) -> ReleaseRecord:
    """Publish the version in production to every target, and add their details to its record. Raises NotPublished."""
    targets = release_targets(config, store)
    if targets and record.version != store.disk.production():
        log.warning("%s %s is not in production any more: it is not published", record.model, record.version)
        return record
    for target in targets:
        details = target.publish(record, store.disk.find(record.version))
        record = store.note(record.version, {target.name: details})
        log.info("%s %s is published: %s", record.model, record.version, details)
    retire(config, store)
    return record


def retire(config: ModelConfig, store: ReleaseStore) -> None:
    """Remove rolled-back and old versions from every target. Raises NotPublished."""
    for target in reversed(release_targets(config, store)):  # a reference goes before the files that it refers to
        if retired := target.retire(store.disk.records()):
            log.info("%s: retired %s", target.name, ", ".join(map(str, retired)))
