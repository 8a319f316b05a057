"""Compute TFMA's metrics over a stream of scored examples, in this process.

TFMA computes a metric from accumulators over examples (each a beam.CombineFn) and from other metrics. Here the
accumulators behind most metrics of a binary classifier are filled a batch at a time; the rest is TFMA's code. If any
metric needs another accumulator, TFMA computes all metrics on Beam, with all examples in memory.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis import version as tfma_version
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer

from nightly.compat.tfma import BATCHED, MetricComputations, is_private_metric, separate_computations
from nightly.engines.beam import Options, pipeline
from nightly.io.hints import did_you_mean

log = logging.getLogger("nightly")

LABEL = "label"
NO_EXAMPLES = "the eval split has no labelled examples to judge the model by"


class Scored(NamedTuple):
    """A batch of examples."""

    labels: np.ndarray  # float32 [rows], 0 or 1
    scores: dict[str, np.ndarray]  # by model: float32 [rows]
    columns: dict[str, pa.StringArray]  # to slice by: [rows], without nulls


def write_results(
    batches: Iterator[Scored], models: list[str], metrics: list[str], slices: list[str], output: Path
) -> None:
    """Compute `metrics` of each model, overall and for each value of each column in `slices`, and write TFMA's results.

    tfma.load_eval_result reads them from `output`; with several models it needs `model_name`. Raises ValueError for an
    unknown metric, a NaN score, or no examples.

    :param metrics: names as in TFMA's results, e.g. auc; example_count is always added
    """
    config = eval_config(models, metrics, slices)
    batches = _checked(batches)
    computations = separate_computations(metric_specs.to_computations(list(config.metrics_specs), eval_config=config))
    others = {type(c.combiner).__name__ for c in computations.non_derived_computations} - {k.__name__ for k in BATCHED}
    if others:
        log.info("%s: these accumulate example by example, on Beam", ", ".join(sorted(others)))
        tfma.analyze_raw_data(_frame(batches), config, output_path=str(output))
    else:
        _write(_in_process(batches, computations, slices), output)
    _write_run(config, output)


def write_results_on_beam(
    rows: beam.PTransform, models: list[str], metrics: list[str], slices: list[str], output: Path, options: Options
) -> None:
    """Write the same results as write_results by TFMA's own pipeline, over `rows` of as_rows."""
    config = eval_config(models, metrics, slices)
    with pipeline(options) as begin:
        analyze = tfma.ExtractEvaluateAndWriteResults(eval_config=config, output_path=str(output))
        _ = begin | rows | analyze
    if not any(tfma.load_metrics(str(output))):
        raise ValueError(NO_EXAMPLES)
    _write_run(config, output)


def as_rows(batch: Scored) -> pa.RecordBatch:
    """Convert a batch to the input of TFMA's extractors: each column has lists of length 1."""
    columns = {LABEL: pa.array(batch.labels)} | {name: pa.array(scores) for name, scores in batch.scores.items()}
    columns |= batch.columns
    offsets = pa.array(np.arange(len(batch.labels) + 1, dtype=np.int32))
    return pa.RecordBatch.from_pydict(
        {name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()}
    )


def eval_config(models: list[str], metrics: list[str], slices: list[str]) -> config_pb2.EvalConfig:
    """Return TFMA's config. No model is a baseline: TFMA compares and judges only in its own Evaluator."""
    classes = [metric_class(name) for name in ("example_count", *metrics)]
    config = config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(name=name if len(models) > 1 else "", label_key=LABEL, prediction_key=name)
            for name in models
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name=name) for name in classes])],
        slicing_specs=[config_pb2.SlicingSpec(), *(config_pb2.SlicingSpec(feature_keys=[name]) for name in slices)],
    )
    return config_util.update_eval_config_with_defaults(config)


def metric_class(name: str) -> str:
    """Return TFMA's class of the metric with this name in its results. Raises ValueError with the nearest name."""
    classes = {}
    for class_name, kind in metric_types.registered_metrics().items():
        try:
            classes[kind().get_config()["name"]] = class_name
        except (KeyError, TypeError, ValueError):  # has no default name
            classes[_snake_case(class_name)] = class_name
    if name not in classes:
        raise ValueError(f"TFMA has no metric {name!r}" + did_you_mean(name, list(classes)))
    return classes[name]


def _snake_case(name: str) -> str:
    """AUCPrecisionRecall -> auc_precision_recall"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def checked(batch: Scored) -> Scored:
    """Return the batch. Raises ValueError if a score is NaN."""
    for model, scores in batch.scores.items():
        if np.isnan(scores).any():
            raise ValueError(f"the {model} model answers {np.isnan(scores).sum()} examples with NaN")
    return batch


def _checked(batches: Iterator[Scored]) -> Iterator[Scored]:
    """Yield the batches with rows. Raises ValueError if a score is NaN, or if there are no rows."""
    empty = True
    for batch in batches:
        if len(batch.labels):
            empty = False
            yield checked(batch)
    if empty:
        raise ValueError(NO_EXAMPLES)


def _slices(batch: Scored, columns: list[str]) -> Iterator[tuple[tuple, slice | np.ndarray]]:
    """Yield TFMA's key and the rows of each slice in the batch: the whole batch, then each value of each column."""
    yield (), slice(None)
    for name in columns:
        encoded = batch.columns[name].dictionary_encode()
        codes = encoded.indices.to_numpy()
        ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
        for value, rows in zip(
            encoded.dictionary.to_pylist(), np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True
        ):
            yield ((name, value),), rows


def _in_process(
    batches: Iterator[Scored], computations: MetricComputations, columns: list[str]
) -> dict[tuple, metric_types.MetricsDict]:
    """Return the public metrics of each slice, by TFMA's slice key."""
    combiners = [(c.combiner, c.keys[0].model_name) for c in computations.non_derived_computations]
    slices: dict[tuple, list[Any]] = {}
    for batch in batches:
        single = next(iter(batch.scores.values()))  # a single model has no name
        for key, rows in _slices(batch, columns):
            previous = slices.get(key) or [combiner.create_accumulator() for combiner, _ in combiners]
            slices[key] = [
                BATCHED[type(combiner)](
                    combiner, accumulator, batch.labels[rows], batch.scores.get(model, single)[rows]
                )
                for (combiner, model), accumulator in zip(combiners, previous, strict=True)
            ]
    return {key: _values(computations, accumulators) for key, accumulators in sorted(slices.items())}


def _values(computations: MetricComputations, accumulators: list[Any]) -> metric_types.MetricsDict:
    """Return the public metrics of a slice."""
    metrics: metric_types.MetricsDict = {}
    for computation, accumulator in zip(computations.non_derived_computations, accumulators, strict=True):
        metrics.update(computation.combiner.extract_output(accumulator))
    for derived in computations.derived_computations:
        metrics.update(derived.result(metrics))
    return {key: value for key, value in metrics.items() if not is_private_metric(key)}


def _write(slices: dict[tuple, metric_types.MetricsDict], output: Path) -> None:
    """Write the metrics in the format of TFMA's writer."""
    output.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(output / "metrics-00000-of-00001.tfrecord")) as writer:
        for item in slices.items():
            writer.write(tfma_writer.convert_slice_metrics_to_proto(item, None).SerializeToString())


def _write_run(config: config_pb2.EvalConfig, output: Path) -> None:
    run = config_pb2.EvalRun(
        eval_config=config, version=tfma_version.VERSION, model_locations={s.name: "" for s in config.model_specs}
    )
    (output / "eval_config.json").write_text(json_format.MessageToJson(run))


def _frame(batches: Iterator[Scored]) -> pd.DataFrame:
    return pd.concat(
        (
            pd.DataFrame(
                {LABEL: batch.labels} | batch.scores | {name: c.to_pandas() for name, c in batch.columns.items()}
            )
            for batch in batches
        ),
        ignore_index=True,
    )
