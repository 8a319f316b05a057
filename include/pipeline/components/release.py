"""The release: a blessed model into the serving volume, as a version that appears whole or not at all."""

import logging
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from include.contracts.evaluation import OVERALL, Evaluation
from include.contracts.night import Night, SnapshotRef
from include.contracts.places import Places
from include.pipeline.artifacts import DataBlessing
from include.pipeline.components.blessing import is_blessed
from include.release.store import ReleaseStore
from include.release.targets import publish
from include.serving.verify import ModelServer

log = logging.getLogger("nightly")


class NotBlessed(Exception):
    """A gate did not pass, so there is nothing to release."""


@component
def Release(
    model: InputArtifact[standard_artifacts.Model],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    data_blessing: InputArtifact[DataBlessing],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    night_folder: Parameter[str],
) -> None:
    """Copy the model into the serving volume under the next version, and write release.json (ReleaseRecord).

    Unlike Pusher this fails, rather than succeed without pushing, when a gate did not bless the model. Where a model
    server is configured (include/serving/verify.py), the version is in production when that has verified it.

    :param night_folder: where request.json and snapshot.json are
    """
    if not (is_blessed(data_blessing) and is_blessed(model_blessing)):
        raise NotBlessed("a gate held this night: nothing is released")
    if not (Path(infra_blessing.uri) / "INFRA_BLESSED").exists():
        raise NotBlessed("the model did not answer in a clean process: nothing is released")
    folder = Path(night_folder)
    night = Night.load(folder / "request.json")
    measured = Evaluation.load(Path(evaluation.uri) / "evaluation.json")
    places = Places.from_environment()
    config = night.config()
    store = ReleaseStore(places.serving, places.releases, night.model)
    record = store.release(
        Path(path_utils.serving_model_path(model.uri)),
        run_id=night.run_id,
        snapshot_id=SnapshotRef.load(folder / "snapshot.json").snapshot_id,
        code_version=night.code_version,
        requested_by=night.requested_by,
        metrics=measured.candidate[OVERALL],
        server=(server := ModelServer.from_environment(places, night.model, config.release)),
    )
    if server is None:
        log.warning("no model server is configured: of %s %s only the files are verified", night.model, record.version)
    record.save(folder / "release.json")
    pushed_model.set_string_custom_property("pushed_destination", record.path)
    pushed_model.set_int_custom_property("pushed_version", record.version)
    store.retain(config.release.keep)
    publish(config, store, record).save(folder / "release.json")
