"""Model analysis: the new model and the one in production scored on the same examples, metrics by TFMA."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from include.contracts.base import did_you_mean
from include.contracts.evaluation import OVERALL, Evaluation
from include.pipeline.components.statistics import record_batches

log = logging.getLogger("nightly")

RAW = "__raw"
CANDIDATE, PRODUCTION = "candidate", "production"
SERVING_BATCH = 1024
Signature = tf.types.experimental.ConcreteFunction


@component
def SideBySideEvaluator(
    examples: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    label: Parameter[str],
    positive: Parameter[str],
    metrics: Parameter[str],
    slices: Parameter[str],
    production_version: Parameter[int],
    baseline_model: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Score the eval split with each model's serving signature, and compute `metrics` overall and per slice.

    Raw serialized examples go in, as in serving, so the transform inside each model is judged with it. Writes TFMA's
    own results (readable with tfma.load_eval_result) and evaluation.json (Evaluation).

    :param label: the label's column in the raw examples
    :param positive: JSON list of its values that count as 1
    :param metrics: JSON list of TFMA metric names, e.g. auc, binary_crossentropy
    :param slices: JSON list of columns to slice by
    :param production_version: version of `baseline_model`, 0 where there is none
    """
    models = {CANDIDATE: path_utils.serving_model_path(model.uri)}
    if baseline_model is not None:
        models[PRODUCTION] = baseline_model.uri
    signatures = {name: tf.saved_model.load(path).signatures["serving_default"] for name, path in models.items()}
    slice_columns = json.loads(slices)
    split = artifact_utils.get_split_uri([examples], "eval")
    frames = list(_scored(split, signatures, label, json.loads(positive), slice_columns))
    if not frames:
        raise ValueError("the eval split has no labelled examples to judge the model by")
    frame = pd.concat(frames, ignore_index=True)
    log.info("scored %d examples with %s", len(frame), " and ".join(models))

    results = tfma.analyze_raw_data(
        frame, _eval_config(list(models), json.loads(metrics), slice_columns), output_path=evaluation.uri
    )
    # With several models TFMA gives a result each, in their order; with one, the result itself.
    by_model = dict(zip(models, getattr(results, "get_results", lambda: [results])(), strict=True))
    measured = {name: _by_slice(result) for name, result in by_model.items()}
    counts = {key: int(values.pop("example_count")) for key, values in measured[CANDIDATE].items()}
    for values in measured.get(PRODUCTION, {}).values():
        values.pop("example_count")
    Evaluation(
        examples=counts,
        candidate=measured[CANDIDATE],
        production=measured.get(PRODUCTION),
        production_version=production_version or None,
    ).save(Path(evaluation.uri) / "evaluation.json")
    for name, figures in measured.items():
        log.info("%s: %s", name, ", ".join(f"{k} {v:.4f}" for k, v in figures[OVERALL].items()))


def _scored(
    split_uri: str, signatures: dict[str, Signature], label: str, positive: list[str], slices: list[str]
) -> Iterator[pd.DataFrame]:
    """A frame a batch: the label as 0 or 1, each model's score, and the columns to slice by."""
    wanted = pa.array([str(value) for value in positive])
    for batch in record_batches(split_uri, raw_record_column=RAW):
        if label not in batch.schema.names:
            continue
        batch = batch.filter(_first(batch, label).is_valid())
        labels = _first(batch, label).cast(pa.string())
        columns = {"label": pc.is_in(labels, wanted).to_numpy(zero_copy_only=False).astype(np.float32)}
        raw = _first(batch, RAW).to_numpy(zero_copy_only=False)
        for name, signature in signatures.items():
            columns[name] = _scores(signature, raw)
        for name in slices:
            missing = name not in batch.schema.names
            values = pa.nulls(len(raw), pa.string()) if missing else _first(batch, name).cast(pa.string())
            columns[name] = values.fill_null("(missing)").to_numpy(zero_copy_only=False)
        yield pd.DataFrame(columns)


def _scores(signature: Signature, raw: np.ndarray) -> np.ndarray:
    """The signature's one output for serialized examples [rows] -> float32 [rows]."""
    (argument,) = signature.structured_input_signature[1]
    parts = []
    for begin in range(0, len(raw), SERVING_BATCH):
        outputs = signature(**{argument: tf.constant(raw[begin : begin + SERVING_BATCH])})
        if len(outputs) != 1:
            raise ValueError(f"serving_default must have one output to be judged by; it has {', '.join(outputs)}")
        (values,) = outputs.values()
        parts.append(np.asarray(values, np.float32).reshape(-1))
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _first(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of lists -> its first values, null where there is none."""
    column = batch.column(name)
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    return pc.list_element(pc.if_else(pc.equal(pc.list_value_length(column), 0), None, column), 0)


def _eval_config(models: list[str], metrics: list[str], slices: list[str]) -> tfma.EvalConfig:
    several = len(models) > 1
    classes = [metric_class(name) for name in ("example_count", *metrics)]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name if several else "",
                label_key="label",
                prediction_key=name,
                is_baseline=several and name == PRODUCTION,
            )
            for name in models
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name=name) for name in classes])],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=[name]) for name in slices)],
    )


def metric_class(name: str) -> str:
    """TFMA's class for the name that the metric has in its results. Raises ValueError with the nearest name."""
    classes = {}
    for known, kind in metric_types.registered_metrics().items():
        try:
            classes[kind().get_config()["name"]] = known
        except (KeyError, TypeError, ValueError):  # has no name of its own, or needs settings to have one
            classes[_snake_case(known)] = known
    if name not in classes:
        raise ValueError(f"TFMA has no metric {name!r}" + did_you_mean(name, list(classes)))
    return classes[name]


def _snake_case(name: str) -> str:
    """AUCPrecisionRecall -> auc_precision_recall"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _by_slice(result: tfma.EvalResult) -> dict[str, dict[str, float]]:
    found = {}
    for key, outputs in result.slicing_metrics:
        values = outputs[""][""]
        figures = {name: float(value["doubleValue"]) for name, value in values.items() if "doubleValue" in value}
        found["".join(f"{column}={value}" for column, value in key)] = figures
    return found
