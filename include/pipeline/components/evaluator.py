"""Model analysis: the new model and the one in production scored on the same examples, metrics by TFMA."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from include.contracts.evaluation import OVERALL, Evaluation
from include.pipeline.components.statistics import record_batches
from include.pipeline.metrics import Scored, write_results

log = logging.getLogger("nightly")

RAW = "__raw"
CANDIDATE, PRODUCTION = "candidate", "production"
BALANCE = "mean_label"  # the share of positive examples, told beside what was asked for
OF_BOTH_CLASSES = {"auc", "auc_precision_recall"}  # without an answer where there is one class only
SERVING_BATCH = 4096  # twice as fast as 1024; from here on only the memory grows
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
    elif production_version:
        raise ValueError(f"version {production_version} is in production and was not given to be compared with")
    signatures = {name: tf.saved_model.load(path).signatures["serving_default"] for name, path in models.items()}
    slice_columns = json.loads(slices)
    split = artifact_utils.get_split_uri([examples], "eval")
    scored = _scored(split, signatures, label, json.loads(positive), slice_columns)
    output = Path(evaluation.uri)
    write_results(scored, list(models), sorted({*json.loads(metrics), BALANCE}), slice_columns, output)

    several = len(models) > 1
    results = {name: tfma.load_eval_result(str(output), model_name=name if several else None) for name in models}
    measured = {name: _by_slice(result) for name, result in results.items()}
    counts = {key: int(values["example_count"]) for key, values in measured[CANDIDATE].items()}
    for values in (values for slices_of_one in measured.values() for values in slices_of_one.values()):
        del values["example_count"]
        if values[BALANCE] in (0, 1):
            for name in OF_BOTH_CLASSES & values.keys():
                del values[name]  # TFMA says 0 where there is no answer
    Evaluation(
        examples=counts,
        candidate=measured[CANDIDATE],
        production=measured.get(PRODUCTION),
        production_version=production_version or None,
    ).save(output / "evaluation.json")
    log.info("scored %d examples with %s", counts[OVERALL], " and ".join(models))
    for name, figures in measured.items():
        log.info("%s: %s", name, ", ".join(f"{k} {v:.4f}" for k, v in figures[OVERALL].items()))


def _scored(
    split_uri: str, signatures: dict[str, Signature], label: str, positive: list[str], slices: list[str]
) -> Iterator[Scored]:
    """The labelled examples, a batch at a time."""
    wanted = pa.array([str(value) for value in positive])
    for batch in record_batches(split_uri, raw_record_column=RAW):
        if label not in batch.schema.names:
            continue
        batch = batch.filter(_first(batch, label).is_valid())
        labels = pc.is_in(_first(batch, label).cast(pa.string()), wanted)
        raw = _first(batch, RAW).to_numpy(zero_copy_only=False)
        yield Scored(
            labels=labels.to_numpy(zero_copy_only=False).astype(np.float32),
            scores={name: _scores(signature, raw) for name, signature in signatures.items()},
            columns={name: _texts(batch, name) for name in slices},
        )


def _texts(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column's first values as text."""
    missing = name not in batch.schema.names
    values = pa.nulls(batch.num_rows, pa.string()) if missing else _first(batch, name).cast(pa.string())
    return values.fill_null("(missing)")


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


def _by_slice(result: tfma.EvalResult) -> dict[str, dict[str, float]]:
    found = {}
    for key, outputs in result.slicing_metrics:
        values = outputs[""][""]
        figures = {name: float(value["doubleValue"]) for name, value in values.items() if "doubleValue" in value}
        found["".join(f"{column}={value}" for column, value in key)] = figures
    return found
