"""Compute the metrics of several models over scored examples, in this process or on Beam, and write them as TFMA does.

Most metrics are functions of sums (formulas.py), which a stream of batches fills in bounded memory. On Beam the workers
fill them, and the rest is the same. TFMA computes any other metric, example by example.
"""

import json
import logging
import pickle
import re
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis import version as tfma_version
from tensorflow_model_analysis.proto import config_pb2

from nightly.compat.tfma import convert_slice_metrics_to_proto, registered_metrics, update_eval_config_with_defaults
from nightly.engines.beam import Options, pipeline, pipeline_options
from nightly.evaluation.errors import EvaluationError
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import COUNT, Values, values_of
from nightly.evaluation.scored import NO_EXAMPLES, Scored
from nightly.io.hints import did_you_mean
from nightly.records.metrics import fixed_rate, listed_name
from nightly.state import current
from nightly.state.workers import WorkerState, collect

log = logging.getLogger("nightly")

LABEL, WEIGHT = "label", "__weight"


def write_results(batches: Iterable[Scored], plan: Plan, output: Path) -> tuple[Measured, Values]:
    """Measure the batches, and write TFMA's results, which tfma.load_eval_result reads from `output`.

    With several models it needs `model_name`. A model with an answer that is not finite has no metrics. Raises
    EvaluationError for an unknown metric, a negative weight, or no examples.
    """
    config = eval_config(plan)
    kept: list[Scored] = []
    measured = Measured(plan)
    for batch in batches:
        measured.add(batch)
        if plan.others:
            kept.append(batch)
    others: Values = {}
    if plan.others and measured.examples and measured.sound.models:
        log.info("TFMA computes %s example by example, with all examples in memory", ", ".join(plan.others))
        rows = beam.Create([as_rows(batch) for batch in kept if len(batch)])
        others = _by_tfma(rows, measured.sound, pipeline_options([]))
    return _written(measured, others, config, output)


def write_results_on_beam(
    scored: beam.PTransform, plan: Plan, output: Path, options: Options
) -> tuple[Measured, Values]:
    """Do the same on Beam.

    :param scored: gives batches of Scored
    """
    config = eval_config(plan)
    part = output / "measured.pickle"
    with pipeline(options) as begin:
        _ = begin | scored | beam.CombineGlobally(_Measuring(plan)) | beam.Map(_save, part, WorkerState())
    collect(output)
    measured = pickle.loads(part.read_bytes())
    part.unlink()
    others = {}
    if plan.others and measured.examples and measured.sound.models:
        # TFMA's workers write to a folder, which they must see.
        options = pipeline_options([]) if current().shared else options
        others = _by_tfma(scored | "to rows" >> beam.Map(as_rows), measured.sound, options, output)
    return _written(measured, others, config, output)


class _Measuring(beam.CombineFn):
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def create_accumulator(self) -> Measured:
        return Measured(self.plan)

    def add_input(self, measured: Measured, batch: Scored) -> Measured:
        return measured.add(batch)

    def merge_accumulators(self, parts: Iterable[Measured]) -> Measured:
        merged = Measured(self.plan)
        for part in parts:
            merged.merge(part)
        return merged

    def extract_output(self, measured: Measured) -> Measured:
        return measured


def _save(measured: Measured, path: Path, state: WorkerState) -> None:
    with state.writing(path) as part:
        part.write_bytes(pickle.dumps(measured))


def as_rows(batch: Scored) -> pa.RecordBatch:
    """Convert a batch to the input of TFMA's extractors: each column has lists, of length 1 but for probabilities."""
    columns = {LABEL: _lists(batch.labels)} | {name: _lists(scores) for name, scores in batch.scores.items()}
    if batch.weights is not None:
        columns[WEIGHT] = _lists(batch.weights)
    columns |= {name: _lists(values) for name, values in batch.columns.items()}
    return pa.RecordBatch.from_pydict(columns)


def _lists(values: pa.Array) -> pa.ListArray:
    width = values.shape[1] if getattr(values, "ndim", 1) == 2 else 1
    flat = values if isinstance(values, pa.Array) else pa.array(values.reshape(-1))
    return pa.ListArray.from_arrays(pa.array(range(0, len(flat) + 1, width), pa.int32()), flat)


def eval_config(plan: Plan) -> config_pb2.EvalConfig:
    """Return TFMA's config. No model is a baseline: TFMA compares and judges only in its own Evaluator.

    It names the metrics that TFMA knows. Raises EvaluationError for one that is unknown here too.
    """
    fast = plan.formulas
    return _config(plan, [name for name in (COUNT, *plan.metrics) if name not in fast or _is_tfmas(name)])


def _config(plan: Plan, metrics: list[str]) -> config_pb2.EvalConfig:
    config = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name if len(plan.models) > 1 else "",
                label_key=LABEL,
                prediction_key=name,
                example_weight_key=WEIGHT if plan.weighted else "",
            )
            for name in plan.models
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=list(map(_metric_config, metrics)))],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[name]) for name in plan.slices),
        ],
    )
    return update_eval_config_with_defaults(config)


def _metric_config(name: str) -> config_pb2.MetricConfig:
    rate = fixed_rate(name)
    return config_pb2.MetricConfig(
        class_name=metric_class(listed_name(name).removesuffix("_N")),
        config=json.dumps({"name": name} | rate) if rate else "",
    )


def metric_class(name: str) -> str:
    """Return TFMA's class of the metric with this name in its results. Raises EvaluationError with the nearest name."""
    classes = _tfma_classes()
    if name not in classes:
        raise EvaluationError(f"TFMA has no metric {name!r}" + did_you_mean(name, list(classes)))
    return classes[name]


def _is_tfmas(name: str) -> bool:
    return name in _tfma_classes()


@cache
def _tfma_classes() -> dict[str, str]:
    classes = {}
    for class_name, kind in registered_metrics().items():
        try:
            classes[kind().get_config()["name"]] = class_name
        except (KeyError, TypeError, ValueError):  # has no default name
            classes[_snake_case(class_name)] = class_name
    return classes


def _snake_case(name: str) -> str:
    """AUCPrecisionRecall -> auc_precision_recall"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _by_tfma(rows: beam.PTransform, plan: Plan, options: Options, beside: Path | None = None) -> Values:
    """Return the metrics that have no formula, from TFMA's own pipeline over `rows` of as_rows."""
    config = _config(plan, plan.others)
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        with pipeline(options) as begin:
            analyze = tfma.ExtractEvaluateAndWriteResults(eval_config=config, output_path=folder)
            _ = begin | rows | analyze
        several = len(plan.models) > 1
        results = {name: tfma.load_eval_result(folder, model_name=name if several else None) for name in plan.models}
    return {
        model: {
            tuple((column, str(value)) for column, value in key): {
                name: float(metric["doubleValue"])
                for name, metric in outputs[""][""].items()
                if name in plan.others and "doubleValue" in metric
            }
            for key, outputs in result.slicing_metrics
        }
        for model, result in results.items()
    }


def _written(
    measured: Measured, others: Values, config: config_pb2.EvalConfig, output: Path
) -> tuple[Measured, Values]:
    """Write the metrics in the format of TFMA's writer, and return them with what they come from."""
    if not measured.examples:
        raise EvaluationError(NO_EXAMPLES)
    plan = measured.plan
    values = {
        model: {key: others.get(model, {}).get(key, {}) | by_metric for key, by_metric in by_slice.items()}
        for model, by_slice in values_of(measured).items()
    }
    output.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(output / "metrics-00000-of-00001.tfrecord")) as writer:
        for key in sorted(measured.slices):
            item = {_key(plan, model, name): v for model in values for name, v in values[model][key].items()}
            writer.write(convert_slice_metrics_to_proto((key, item), None).SerializeToString())
    run = config_pb2.EvalRun(
        eval_config=config, version=tfma_version.VERSION, model_locations={s.name: "" for s in config.model_specs}
    )
    (output / "eval_config.json").write_text(json_format.MessageToJson(run))
    return measured, values


def _key(plan: Plan, model: str, name: str) -> tfma.metrics.MetricKey:
    """Return TFMA's key: a class's metric has the number of the class."""
    metric, _, label = name.partition(":")
    return tfma.metrics.MetricKey(
        name=metric,
        model_name=model if len(plan.models) > 1 else "",
        sub_key=tfma.metrics.SubKey(class_id=plan.classes.index(label)) if label else None,
        example_weighted=plan.weighted and name != COUNT,
    )
