"""The TFX pipeline of a model: one plain tfx.dsl.Pipeline, whichever runner runs it.

Airflow runs one node of it a task (include/nightly/tfx/runner.py). It also runs as it is under TFX's LocalDagRunner.
"""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import standard_artifacts

from nightly.baselines import controls_of
from nightly.io.paths import Places, safe_name
from nightly.models import config_of
from nightly.records.config import ModelConfig
from nightly.records.night import Night, SnapshotRef
from nightly.schemas.store import SchemaStore
from nightly.snapshots.whole import read_manifest
from nightly.tfx.components.data_gate import DataGate
from nightly.tfx.components.drift_skew import DriftSkewValidator
from nightly.tfx.components.evaluator import SideBySideEvaluator
from nightly.tfx.components.examples import SnapshotExampleGen
from nightly.tfx.components.infra_validator import CleanProcessInfraValidator
from nightly.tfx.components.model_gate import ModelGate
from nightly.tfx.components.release import Release
from nightly.tfx.components.statistics import InProcessStatisticsGen
from nightly.tfx.components.transform import BeamTransform, InProcessTransform
from nightly.tfx.metadata import connection_config

PREPROCESSING_FN = "nightly.training.transforming.preprocessing_fn"  # calls the model's own
RUN_FN = "nightly.training.run.run_fn"  # for every model that does not bring its own


def create_pipeline(night: Night, places: Places) -> tfx.dsl.Pipeline:
    """The night's pipeline: from its snapshot to its release. A node's id is the name of its Airflow task."""
    config = config_of(night)
    folder = str(night.folder(places))
    snapshot = SnapshotRef.load(night.folder(places) / "snapshot.json")
    manifest = read_manifest(Path(snapshot.path))
    controls = controls_of(places, night, config.data_gate.controls)
    label = config.data.label
    schema_file = SchemaStore(places, night.model).path(night.schema_version)
    metrics = sorted({*config.model_gate.metrics, *config.model_gate.slice_metrics})
    beam_args = json.dumps(config.pipeline.beam_args) if config.pipeline.engine == "beam" else ""

    examples = SnapshotExampleGen(
        snapshot=snapshot.path,
        columns="\n".join(name for name in manifest.columns if name not in config.data.ignore),
        id_columns="\n".join(config.data.id_columns or manifest.columns),
        label=label.column,
        eval_percent=config.data.eval_percent,
        beam_args=beam_args,
    ).with_id("examples")
    statistics = InProcessStatisticsGen(examples=examples.outputs["examples"], beam_args=beam_args).with_id(
        "statistics"
    )
    schema = tfx.components.ImportSchemaGen(schema_file=str(schema_file)).with_id("schema")
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id("example_validator")
    drift_skew = DriftSkewValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        controls=json.dumps([control.model_dump(mode="json") for control in controls]),
        thresholds=json.dumps(night.overrides, sort_keys=True),
        predictions=str(places.predictions / night.model),
        night_folder=folder,
    ).with_id("drift_skew")
    data_gate = DataGate(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        anomalies=example_validator.outputs["anomalies"],
        drift_skew=drift_skew.outputs["anomalies"],
        requests=drift_skew.outputs["requests"],
        night_folder=folder,
    ).with_id("data_gate")
    transform = _transform(config, examples, schema)
    transform.add_upstream_node(data_gate)
    trainer = tfx.components.Trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        run_fn=f"include.models.{config.name}.model.run_fn" if _brings_run_fn(config) else RUN_FN,
        train_args=tfx.proto.TrainArgs(num_steps=night.train_steps),
        eval_args=tfx.proto.EvalArgs(),
        custom_config={
            "model": config.name,
            "batch_size": config.training.batch_size,
            "hyperparameters": config.training.hyperparameters,
        },
    ).with_id("trainer")
    production = _production_model(night, places)
    evaluator = SideBySideEvaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        label=label.column,
        positive=json.dumps(label.positive),
        metrics=json.dumps(metrics),
        slices=json.dumps(config.model_gate.slices),
        production_version=night.production_version or 0,
        beam_args=beam_args,
        **({"baseline_model": production.outputs["result"]} if production else {}),
    ).with_id("evaluator")
    model_gate = ModelGate(evaluation=evaluator.outputs["evaluation"], night_folder=folder).with_id("model_gate")
    infra_validator = CleanProcessInfraValidator(
        model=trainer.outputs["model"], examples=examples.outputs["examples"], model_name=config.name
    ).with_id("infra_validator")
    release = Release(
        model=infra_validator.outputs["servable"],
        evaluation=evaluator.outputs["evaluation"],
        data_blessing=data_gate.outputs["blessing"],
        model_blessing=model_gate.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        night_folder=folder,
    ).with_id("release")

    nodes: list[BaseNode] = [examples, statistics, schema, example_validator, drift_skew, data_gate, transform, trainer]
    nodes += [*([production] if production else []), evaluator, model_gate, infra_validator, release]
    return tfx.dsl.Pipeline(
        pipeline_name=night.model,
        pipeline_root=str(places.pipeline / night.model),
        components=nodes,
        metadata_connection_config=connection_config(places, night.model),
        enable_cache=False,
    )


def _transform(config: ModelConfig, examples: BaseNode, schema: BaseNode) -> BaseNode:
    """In this process, or TFX's own on a Beam runner: the same outputs."""
    inputs = {"examples": examples.outputs["examples"], "schema": schema.outputs["schema"]}
    custom_config = {"model": config.name}
    if config.pipeline.engine == "in_process":
        node = InProcessTransform(**inputs, preprocessing_fn=PREPROCESSING_FN, custom_config=json.dumps(custom_config))
    else:
        node = BeamTransform(
            **inputs,
            preprocessing_fn=PREPROCESSING_FN,
            custom_config=custom_config,
            disable_statistics=True,  # nothing reads the statistics of the transformed examples
            disable_analyzer_cache=True,
        ).with_beam_pipeline_args(config.pipeline.beam_args)
    return node.with_id("transform")


def _production_model(night: Night, places: Places) -> BaseNode | None:
    """The version in production when the night was planned, as an artifact: the evaluator's baseline."""
    if night.production_version is None:
        return None
    pinned = pinned_production(night, places)
    return tfx.dsl.Importer(
        source_uri=str(pinned if pinned.is_dir() else places.serving / night.model / str(night.production_version)),
        artifact_type=standard_artifacts.Model,
        custom_properties={"version": night.production_version},
        reimport=True,  # a retry takes the first try's artifact out of sight, and must not find it again
    ).with_id("production_model")


def pinned_production(night: Night, places: Places) -> Path:
    """Where the evaluator reads production's model; retention removes it with the night's other artifacts."""
    return places.pipeline / night.model / "production_model" / f"{safe_name(night.run_id)}-{night.in_production}"


def _brings_run_fn(config: ModelConfig) -> bool:
    module = f"include.models.{config.name}.model"
    return find_spec(module) is not None and hasattr(import_module(module), "run_fn")
