"""A model's TFX pipeline: a plain tfx.dsl.Pipeline that does not depend on its runner.

Airflow runs each node as a task (include/nightly/tfx/runner.py). TFX's LocalDagRunner runs it unchanged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import BaseChannel, standard_artifacts

from nightly.baselines import controls_of
from nightly.io.paths import Paths, safe_name
from nightly.models import config_of
from nightly.records.base import ContractError
from nightly.records.baseline import Control
from nightly.records.config import ModelConfig
from nightly.records.night import Night, SnapshotRef
from nightly.records.release import ReleaseRecord, Split
from nightly.release.store import ReleaseStore
from nightly.schemas.curated import read_schema, recorded_classes
from nightly.schemas.features import Sized, sized_features
from nightly.schemas.store import SchemaStore
from nightly.snapshots.verification import read_manifest
from nightly.state.hosts import check_path
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
RUN_FN = "nightly.training.run.run_fn"  # unless the model defines its own


@dataclass(frozen=True)
class PipelineInputs:
    """Everything that a night's pipeline is built from, read from disk."""

    night: Night
    config: ModelConfig
    paths: Paths
    snapshot: Path
    columns: dict[str, str]  # of the snapshot -> their types there
    controls: list[Control]
    schema_file: Path
    production_model: Path | None  # the evaluator's baseline; None if nothing is in production
    run_fn: str  # import path
    production_split: Split | None = None  # that the production model was trained with; None if not known

    @property
    def night_folder(self) -> str:
        return str(self.night.folder(self.paths))

    @property
    def split(self) -> Split:
        data = self.config.data
        columns = [data.time_column] if data.eval == "newest" else data.id_columns or list(self.columns)
        return Split(eval=data.eval, columns=columns, eval_percent=data.eval_percent)

    @property
    def unmeasured(self) -> str:
        """Why the production model cannot be measured on this night's eval split; "" if it can."""
        before = self.production_split
        if before is None or before.holds_out(self.split):
            return ""
        return (
            f"version {self.night.production_version} in production was trained with another split, so it may have "
            f"seen examples of this one: held out were {before.described}, and now {self.split.described}"
        )

    @property
    def sized(self) -> dict[str, Sized]:
        """The features that are measured by the sizes of their values; bytes are, even outside the schema."""
        unknown: dict[str, Sized] = {name: "bytes" for name, kind in self.columns.items() if "binary" in kind}
        return unknown | sized_features(read_schema(self.schema_file))

    @property
    def beam_args(self) -> str:
        """The Beam options as a JSON list; "" to run in this process."""
        pipeline = self.config.pipeline
        return json.dumps(pipeline.beam_args) if pipeline.engine == "beam" else ""


def read_inputs(night: Night, paths: Paths) -> PipelineInputs:
    """Read the inputs of the night's pipeline.

    Raises DamagedSnapshotError, SchemaVersionError, ContractError, and StateAddressError on a host with other paths.
    """
    config, snapshot = config_of(night), Path(SnapshotRef.load(night.folder(paths) / SnapshotRef.FILE).path)
    check_path(snapshot, paths.snapshots)
    return PipelineInputs(
        night=night,
        config=config,
        paths=paths,
        snapshot=snapshot,
        columns=read_manifest(snapshot).columns,
        controls=controls_of(paths, night, config.data_gate.controls),
        schema_file=SchemaStore(paths, night.model).path(night.schema_version),
        production_model=_production_model(night, paths),
        run_fn=_run_fn(config),
        production_split=_production_split(night, paths),
    )


def create_pipeline(inputs: PipelineInputs) -> tfx.dsl.Pipeline:
    """Build the night's pipeline, from snapshot to release. A node's id equals its Airflow task id."""
    return tfx.dsl.Pipeline(
        pipeline_name=inputs.night.model,
        pipeline_root=str(inputs.paths.pipeline / inputs.night.model),
        components=create_nodes(inputs),
        metadata_connection_config=connection_config(inputs.paths, inputs.night.model),
        enable_cache=False,
    )


def create_nodes(inputs: PipelineInputs) -> list[BaseNode]:
    """Return the pipeline's nodes, connected, each after those that it depends on."""
    data = _data_nodes(inputs)
    model = _model_nodes(inputs, data)
    release = Release(
        model=model["infra_validator"].outputs["servable"],
        evaluation=model["evaluator"].outputs["evaluation"],
        data_blessing=data["data_gate"].outputs["blessing"],
        model_blessing=model["model_gate"].outputs["blessing"],
        infra_blessing=model["infra_validator"].outputs["blessing"],
        night_folder=inputs.night_folder,
        split=inputs.split.model_dump_json(),
    ).with_id("release")
    return [*data.values(), *model.values(), release]


def _data_nodes(inputs: PipelineInputs) -> dict[str, BaseNode]:
    """Return the nodes up to the data gate, by id."""
    night, data = inputs.night, inputs.config.data
    examples = SnapshotExampleGen(
        snapshot=str(inputs.snapshot),
        columns="\n".join(name for name in inputs.columns if name not in data.ignore),
        id_columns="\n".join(data.id_columns or inputs.columns),
        label=data.label.column,
        eval_percent=data.eval_percent,
        newest_by=data.time_column if data.eval == "newest" else "",
        classes=json.dumps(sorted(recorded_classes(read_schema(inputs.schema_file), data.label))),
        beam_args=inputs.beam_args,
    )
    statistics = InProcessStatisticsGen(
        examples=examples.outputs["examples"],
        sized=json.dumps(inputs.sized, sort_keys=True),
        beam_args=inputs.beam_args,
    )
    schema = tfx.components.ImportSchemaGen(schema_file=str(inputs.schema_file))
    measured = {"statistics": statistics.outputs["statistics"], "schema": schema.outputs["schema"]}
    example_validator = tfx.components.ExampleValidator(**measured)
    drift_skew = DriftSkewValidator(
        **measured,
        controls=json.dumps([control.model_dump(mode="json") for control in inputs.controls]),
        thresholds=json.dumps(night.overrides, sort_keys=True),
        predictions=str(inputs.paths.predictions / night.model),
        night_folder=inputs.night_folder,
    )
    data_gate = DataGate(
        **measured,
        anomalies=example_validator.outputs["anomalies"],
        drift_skew=drift_skew.outputs["anomalies"],
        requests=drift_skew.outputs["requests"],
        night_folder=inputs.night_folder,
    )
    return _with_ids(
        examples=examples,
        statistics=statistics,
        schema=schema,
        example_validator=example_validator,
        drift_skew=drift_skew,
        data_gate=data_gate,
    )


def _model_nodes(inputs: PipelineInputs, data: Mapping[str, BaseNode]) -> dict[str, BaseNode]:
    """Return the nodes from transform to infra validation, by id."""
    config, gate = inputs.config, inputs.config.model_gate
    examples, schema = data["examples"].outputs["examples"], data["schema"].outputs["schema"]
    transform = _transform(config, examples, schema)
    transform.add_upstream_node(data["data_gate"])
    trainer = _trainer(inputs, transform, schema, ["train"])
    production = _production_node(inputs)
    baseline = {"baseline_model": production.outputs["result"]} if production else {}
    evaluator = SideBySideEvaluator(
        examples=examples,
        model=trainer.outputs["model"],
        label=config.data.label.model_dump_json(),
        weight_column=config.data.weight_column,
        metrics=json.dumps(sorted({*gate.metrics, *gate.slice_metrics})),
        slices=json.dumps(gate.slices),
        production_version=inputs.night.production_version or 0,
        id_columns=json.dumps(config.data.id_columns),
        unmeasured=inputs.unmeasured,
        beam_args=inputs.beam_args,
        **baseline,
    )
    model_gate = ModelGate(evaluation=evaluator.outputs["evaluation"], night_folder=inputs.night_folder)
    again = _refit(inputs, transform, schema, model_gate) if config.training.refit else None
    infra_validator = CleanProcessInfraValidator(
        model=(again or trainer).outputs["model"],
        examples=examples,
        model_name=config.name,
        **({"judged": trainer.outputs["model"]} if again else {}),
    )
    return _with_ids(
        transform=transform,
        trainer=trainer,
        **({"production_model": production} if production else {}),
        evaluator=evaluator,
        model_gate=model_gate,
        **({"refit": again} if again else {}),
        infra_validator=infra_validator,
    )


def _trainer(
    inputs: PipelineInputs, transform: BaseNode, schema: BaseChannel, splits: list[str]
) -> tfx.components.Trainer:
    """Return a trainer on these splits."""
    config = inputs.config
    return tfx.components.Trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        run_fn=inputs.run_fn,
        train_args=tfx.proto.TrainArgs(num_steps=inputs.night.train_steps, splits=splits),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={
            "model": config.name,
            "batch_size": config.training.batch_size,
            "hyperparameters": config.training.hyperparameters,
            **({} if config.training.gpus == 1 else {"gpus": config.training.gpus}),
        },
    )


def _refit(inputs: PipelineInputs, transform: BaseNode, schema: BaseChannel, model_gate: BaseNode) -> BaseNode:
    """Return a trainer on all rows. Its transform is the judged model's, which was analyzed on the train split."""
    trainer = _trainer(inputs, transform, schema, ["train", "eval"])
    trainer.add_upstream_node(model_gate)
    return trainer


def _with_ids(**nodes: BaseNode) -> dict[str, BaseNode]:
    return {name: node.with_id(name) for name, node in nodes.items()}


def _transform(config: ModelConfig, examples: BaseChannel, schema: BaseChannel) -> BaseNode:
    """Return the in-process transform, or TFX's own for a Beam runner. Both have the same outputs."""
    inputs = {"examples": examples, "schema": schema}
    custom_config = {"model": config.name}
    if config.pipeline.engine == "in_process":
        return InProcessTransform(**inputs, preprocessing_fn=PREPROCESSING_FN, custom_config=json.dumps(custom_config))
    return BeamTransform(
        **inputs,
        preprocessing_fn=PREPROCESSING_FN,
        custom_config=custom_config,
        disable_statistics=True,  # nothing reads the statistics of the transformed examples
        disable_analyzer_cache=True,
    ).with_beam_pipeline_args(config.pipeline.beam_args)


def _production_node(inputs: PipelineInputs) -> BaseNode | None:
    """Return an importer of the version in production, the evaluator's baseline; None if there is none."""
    if inputs.production_model is None:
        return None
    return tfx.dsl.Importer(
        source_uri=str(inputs.production_model),
        artifact_type=standard_artifacts.Model,
        custom_properties={"version": inputs.night.production_version},
        reimport=True,  # a retry abandons the first attempt's artifact and must not reuse it
    )


def _production_model(night: Night, paths: Paths) -> Path | None:
    if night.production_version is None:
        return None
    pinned = pinned_production(night, paths)
    return pinned if pinned.is_dir() else paths.serving / night.model / str(night.production_version)


def _production_split(night: Night, paths: Paths) -> Split | None:
    if night.production_version is None:
        return None
    record = ReleaseStore(paths.serving, paths.releases, night.model).disk.record_path(night.production_version)
    return ReleaseRecord.load(record).split if record.exists() else None


def pinned_production(night: Night, paths: Paths) -> Path:
    """Return the folder of the pinned production model. Retention removes it with the night's other artifacts."""
    return pinned_models(paths, night.model) / f"{safe_name(night.run_id)}-{night.in_production}"


def pinned_models(paths: Paths, model: str) -> Path:
    """Return the folder of all nights' pinned production models."""
    return paths.pipeline / model / "production_model"


def pinned_run(name: str) -> str:
    """Return the name of the night's folder from that of its pinned production model."""
    return name.rpartition("-")[0]


def _run_fn(config: ModelConfig) -> str:
    """Return the import path of the model's own run_fn, or of the one for every model. Raises ContractError."""
    module = f"include.models.{config.name}.model"
    if find_spec(module) is None or not hasattr(import_module(module), "run_fn"):
        return RUN_FN
    if config.training.gpus != 1:
        raise ContractError(
            f"{module} has a run_fn of its own, which training.gpus does not reach: leave gpus out, and use "
            "tf.distribute in run_fn"
        )
    return f"{module}.run_fn"
