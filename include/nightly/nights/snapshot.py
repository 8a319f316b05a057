"""The night's snapshot step: request.json and download.json -> snapshot.json."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from nightly.baselines import snapshots_of
from nightly.io.paths import Paths
from nightly.models import config_of
from nightly.nights.unfinished import unfinished
from nightly.records.base import ContractError
from nightly.records.config import ModelConfig
from nightly.records.night import Download, Night, SnapshotRef
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome, Verdict
from nightly.release.versions import LIVE
from nightly.schemas.store import SchemaStore
from nightly.snapshots.errors import SnapshotError, UnreadableBodyError
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources.part_store import bodies_folder
from nightly.state.hosts import check_path

log = logging.getLogger("nightly")


def run(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Write the snapshot of the night in `night_folder`, remove old ones, and return the SnapshotRef as plain data."""
    config = config_of(Night.load(night_folder / Night.FILE))
    ref = _ingest(night_folder, paths, rejects_folder=night_folder)
    ref.save(night_folder / SnapshotRef.FILE)
    try:
        removed = retain(paths, config, {ref.snapshot_id})
        log.info(
            "snapshots removed, except the last %s and %s of accepted nights: %s",
            config.retention.snapshots,
            config.retention.accepted_snapshots,
            ", ".join(removed) or "none",
        )
    except (ContractError, FileNotFoundError) as error:
        log.warning("no snapshot is removed, because it is not known which ones are in use: %s", error)
    return ref.model_dump(mode="json")


def remake(night_folder: Path, paths: Paths) -> None:
    """Make the night's snapshot again from its bodies, without the source. The night's records stay as they are.

    Raises SnapshotError if the bodies are gone, or give another snapshot now.
    """
    recorded = SnapshotRef.load(night_folder / SnapshotRef.FILE).snapshot_id
    with tempfile.TemporaryDirectory() as folder:
        ref = _ingest(night_folder, paths, rejects_folder=Path(folder))
    if ref.snapshot_id != recorded:
        raise SnapshotError(f"the bodies now give the snapshot {ref.snapshot_id or '(no rows)'}, not {recorded}")


def _ingest(night_folder: Path, paths: Paths, *, rejects_folder: Path) -> SnapshotRef:
    night = Night.load(night_folder / Night.FILE)
    store = SnapshotStore(paths.snapshots, night.model)
    schema = SchemaStore(paths, night.model).path(night.schema_version)
    download = Download.load(night_folder / Download.FILE)
    for file in download.files:
        if file.run_id:
            check_path(Path(file.path), bodies_folder(paths.downloads / night.model))
    try:
        return ingest(config_of(night), night, download, store, folder=rejects_folder, schema=schema)
    except UnreadableBodyError:
        _touch_bodies(download)
        raise


def _touch_bodies(download: Download) -> None:
    """Have the next download hash the fetched bodies, and fetch the damaged ones again."""
    for file in download.files:
        if file.run_id and Path(file.path).exists():
            os.utime(file.path)


def retain(paths: Paths, config: ModelConfig, always: set[str]) -> list[str]:
    """Remove the snapshots that the model's [retention] does not keep, never one in `always`; return their ids.

    Those of unfinished nights and of versions that may be served stay, however many there are.
    """
    model, keep = config.name, config.retention
    always = always | of_versions(paths, model) | _of_unfinished(paths, model)
    store = SnapshotStore(paths.snapshots, model)
    return store.retain(keep.snapshots, referred(paths, model), keep.accepted_snapshots, always)


def of_versions(paths: Paths, model: str) -> set[str]:
    """Return the snapshots of the versions that may be served: production, earlier releases and the canary."""
    records = [ReleaseRecord.load(path) for path in (paths.releases / model).glob("*.json")]
    return {record.snapshot_id for record in records if record.state in ("releasing", *LIVE)}


def referred(paths: Paths, model: str) -> set[str]:
    """Return the snapshots of accepted or released runs."""
    ids = {ReleaseRecord.load(path).snapshot_id for path in (paths.releases / model).glob("*.json")}
    ids |= snapshots_of(paths.baselines, model)
    for path in (paths.nights / model).glob(f"*/{SnapshotRef.FILE}"):
        if _is_accepted(path.with_name(Verdict.FILE)):
            ids.add(SnapshotRef.load(path).snapshot_id)
    return ids - {""}


def _of_unfinished(paths: Paths, model: str) -> set[str]:
    refs = (folder / SnapshotRef.FILE for folder in unfinished(paths.nights / model))
    return {SnapshotRef.load(path).snapshot_id for path in refs if path.exists()}


def _is_accepted(verdict: Path) -> bool:
    return verdict.exists() and Verdict.load(verdict).outcome in (Outcome.RELEASED, Outcome.ACCEPTED)
