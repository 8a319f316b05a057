"""The same night as a usual TFX pipeline under LocalDagRunner, which the project is compared with.

    python -m benchmarks.tfx_pipeline CSV_FOLDER FOLDER STEPS

It has TFX's components with their usual settings, on Beam's direct runner. FOLDER keeps ML Metadata and the pushed
models, so a second night is compared with the model that the first one blessed. The last line of output is JSON: each
component's seconds, and the number of versions pushed so far.
"""

import json
import sys
from pathlib import Path

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import metadata

from nightly.io.paths import ROOT
from nightly.models import load_config

# By import path, as in TFX's templates: module_file= would build and install a wheel in every run.
PREPROCESSING_FN = "benchmarks.tfx_model.preprocessing_fn"
RUN_FN = "benchmarks.tfx_model.run_fn"
SCHEMA = str(ROOT / "include/models/complaints/schema.pbtxt")
EVAL_STEPS = 10


def create_pipeline(csv_folder: Path, folder: Path, steps: int) -> tfx.dsl.Pipeline:
    """Return the pipeline from the CSV to the pushed model."""
    example_gen = example_gen_of(csv_folder)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.ImportSchemaGen(schema_file=SCHEMA)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"], schema=schema_gen.outputs["schema"], preprocessing_fn=PREPROCESSING_FN
    )
    trainer = trainer_of(transform, schema_gen, steps)
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=eval_config(),
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(folder / "serving"))
        ),
    )
    nodes = [
        example_gen,
        statistics_gen,
        schema_gen,
        example_validator,
        transform,
        trainer,
        resolver,
        evaluator,
        pusher,
    ]
    return as_pipeline(nodes, folder)


def example_gen_of(csv_folder: Path) -> BaseNode:
    """Return the node that converts CSV to examples, split 4:1 by a hash."""
    buckets = [
        tfx.proto.SplitConfig.Split(name="train", hash_buckets=4),
        tfx.proto.SplitConfig.Split(name="eval", hash_buckets=1),
    ]
    output = tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=buckets))
    return tfx.components.CsvExampleGen(input_base=str(csv_folder), output_config=output)


def trainer_of(transform: BaseNode, schema_gen: BaseNode, steps: int) -> BaseNode:
    return tfx.components.Trainer(
        run_fn=RUN_FN,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema_gen.outputs["schema"],
        train_args=tfx.proto.TrainArgs(num_steps=steps),
        eval_args=tfx.proto.EvalArgs(num_steps=EVAL_STEPS),
    )


def eval_config() -> tfma.EvalConfig:
    """Return the model gate's metrics, slices and bounds as TFMA's EvalConfig."""
    gate = load_config("complaints").model_gate
    auc, loss = gate.metrics["auc"], gate.metrics["binary_crossentropy"]
    higher, lower = tfma.MetricDirection.HIGHER_IS_BETTER, tfma.MetricDirection.LOWER_IS_BETTER
    thresholds = {
        "AUC": tfma.MetricThreshold(
            value_threshold=tfma.GenericValueThreshold(lower_bound={"value": auc.floor}),
            change_threshold=tfma.GenericChangeThreshold(direction=higher, absolute={"value": -auc.max_drop}),
        ),
        "BinaryCrossEntropy": tfma.MetricThreshold(
            value_threshold=tfma.GenericValueThreshold(upper_bound={"value": loss.ceiling}),
            change_threshold=tfma.GenericChangeThreshold(direction=lower, absolute={"value": loss.max_rise}),
        ),
    }
    metrics = [tfma.MetricConfig(class_name=name, threshold=bounds) for name, bounds in thresholds.items()]
    metrics.append(tfma.MetricConfig(class_name="ExampleCount"))
    model = tfma.ModelSpec(
        signature_name="serving_default", label_key="label", preprocessing_function_names=["transform_features"]
    )
    slices = [tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=[name]) for name in gate.slices)]
    return tfma.EvalConfig(model_specs=[model], slicing_specs=slices, metrics_specs=[tfma.MetricsSpec(metrics=metrics)])


def as_pipeline(nodes: list[BaseNode], folder: Path) -> tfx.dsl.Pipeline:
    (folder / "root").mkdir(parents=True, exist_ok=True)
    return tfx.dsl.Pipeline(
        pipeline_name="complaints",
        pipeline_root=str(folder / "root"),
        components=nodes,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        ),
        enable_cache=False,
    )


def run(pipeline: tfx.dsl.Pipeline) -> dict[str, float]:
    """Run the pipeline under LocalDagRunner; return each node's seconds from ML Metadata, by node id."""
    tfx.orchestration.LocalDagRunner().run(pipeline)
    seconds = {}
    with metadata.Metadata(pipeline.metadata_connection_config) as handle:
        for context in handle.store.get_contexts_by_type("node"):
            last = max(handle.store.get_executions_by_context(context.id), key=lambda execution: execution.id)
            milliseconds = last.last_update_time_since_epoch - last.create_time_since_epoch
            seconds[context.name.removeprefix(f"{pipeline.pipeline_info.pipeline_name}.")] = milliseconds / 1000
    return seconds


def main() -> None:
    csv_folder, folder, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    seconds = run(create_pipeline(csv_folder, folder, steps))
    pushed = len(list((folder / "serving").glob("[0-9]*")))
    print(json.dumps({"components": seconds, "versions": pushed}))


if __name__ == "__main__":
    main()
