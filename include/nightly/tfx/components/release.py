"""Release a blessed model: copy it into the serving volume as a version that appears atomically."""

import logging
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from nightly.io.paths import Paths
from nightly.models import config_of
from nightly.records.evaluation import OVERALL, Evaluation
from nightly.records.night import Night, SnapshotRef, utc_now
from nightly.records.release import NotReleased, Origin, ReleaseRecord, Split
from nightly.release.errors import DamagedError
from nightly.release.store import ReleaseStore
from nightly.release.targets import publish
from nightly.release.versions import hash_version
from nightly.schemas.store import SchemaStore
from nightly.serving import address
from nightly.serving.server import find_server
from nightly.tfx.artifacts import DataBlessing
from nightly.tfx.components.blessing import is_blessed
from nightly.tfx.recipe import recipe
from nightly.tfx.seals import files_below

log = logging.getLogger("nightly")


class NotBlessed(Exception):
    """A gate did not pass, so there is nothing to release."""

    retry = False  # as of UserError


@component
def Release(
    model: InputArtifact[standard_artifacts.Model],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    data_blessing: InputArtifact[DataBlessing],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    night_folder: Parameter[str],
    split: Parameter[str] = "",
) -> None:
    """Copy the model into the serving volume under the next version, and write release.json (ReleaseRecord).

    Unlike Pusher, this fails if a gate did not bless the model. If a model server is configured
    (nightly.serving.server), the version is in production once the server has verified it. A model that an earlier run
    has released is not released again; not_released.json records why.

    :param night_folder: the folder of request.json and snapshot.json
    :param split: the split that the model was trained with, as JSON (Split)
    """
    refuse_unblessed(data_blessing, model_blessing, infra_blessing)
    folder, paths = Path(night_folder), Paths.from_environment()
    night = Night.load(folder / Night.FILE)
    config, source = config_of(night), Path(path_utils.serving_model_path(model.uri))
    store = ReleaseStore(paths.serving, paths.releases, night.model)
    snapshot_id = SnapshotRef.load(folder / SnapshotRef.FILE).snapshot_id
    recipe_hash = recipe(night, snapshot_id, SchemaStore(paths, night.model).path(night.schema_version))
    if not_released := known(store, source, night.run_id, recipe_hash):
        log.warning("nothing is released: %s", not_released.reason)
        not_released.save(folder / NotReleased.FILE)
        return
    measured = Evaluation.load(Path(evaluation.uri) / Evaluation.FILE)
    record = store.release(
        source,
        Origin(
            run_id=night.run_id,
            snapshot_id=snapshot_id,
            code_version=night.code_version,
            requested_by=night.requested_by,
            metrics=measured.candidate[OVERALL],
            recipe=recipe_hash,
            split=Split.parse(split, where="the parameter split") if split else None,
        ),
        server=find_server(paths, night.model, config.release),
        canary_share=config.release.canary.share if config.release.canary else None,
        judged_against=night.in_production if measured.production_version is None else measured.production_version,
        validated=files_below(model, source),
    )
    record_address(paths, record)
    record.save(folder / ReleaseRecord.FILE)
    pushed_model.set_string_custom_property("pushed_destination", record.path)
    pushed_model.set_int_custom_property("pushed_version", record.version)
    store.retain(config.release.keep)
    if record.state != "canary":  # a canary is published when it is promoted
        publish(config, store, record).save(folder / ReleaseRecord.FILE)


def refuse_unblessed(data: Artifact, model: Artifact, infra: Artifact) -> None:
    """Raise NotBlessed unless both gates and the infra validator blessed the model."""
    if not (is_blessed(data) and is_blessed(model)):
        raise NotBlessed("a gate held this night: nothing is released")
    if not (Path(infra.uri) / "INFRA_BLESSED").exists():
        raise NotBlessed("the model did not answer in a clean process: nothing is released")


def record_address(paths: Paths, record: ReleaseRecord) -> None:
    """Record the model server that the environment names, so that commands in other shells find it."""
    if server := address.find_address(paths):
        address.record(paths, server)
    else:
        log.warning("no model server is configured: of %s %s only the files are verified", record.model, record.version)


def known(store: ReleaseStore, source: Path, run_id: str, recipe_hash: str = "") -> NotReleased | None:
    """Return why the model in `source` is not released: it is in production, or was withdrawn. None if it is new.

    A night without changes must not release a version again, least of all one that somebody rolled back. A model with
    the recipe of a withdrawn version counts as that version, even if its files differ. A version of this run is left to
    the store, which handles retries.
    """
    files = hash_version(source)
    same = [record for record in reversed(store.disk.records()) if record.files == files]
    if any(record.run_id == run_id for record in same):
        return None
    production = store.disk.production()
    if current := next((record for record in same if record.version == production), None):
        try:
            store.disk.verify(current.version)
        except DamagedError as error:
            log.error("%s", error)
            return None  # production needs an intact copy
        reason = f"nothing has changed since {current.run_id}, which released this very model"
        return NotReleased(reason=reason, decided_at=utc_now())
    like = [record for record in reversed(store.disk.records()) if recipe_hash and record.recipe == recipe_hash]
    if bad := next((record for record in [*same, *like] if record.taken_back), None):
        what = "this very model is" if bad in same else "the same snapshot, code and settings made"
        reason = f"{what} version {bad.version}, which was taken back ({bad.why})"
        return NotReleased(reason=reason, withdrawn=bad.version, decided_at=utc_now())
    return None
