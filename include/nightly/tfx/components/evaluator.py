"""Model analysis: score the new and the production model on the same examples, with TFMA's metrics."""

import json
import logging
from itertools import chain
from pathlib import Path

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from nightly.engines.beam import pipeline_options
from nightly.evaluation.metrics import write_results, write_results_on_beam
from nightly.evaluation.scoring import RAW, Scorer
from nightly.examples.reading import reader, record_batches
from nightly.records.evaluation import OVERALL, Evaluation

log = logging.getLogger("nightly")

CANDIDATE, PRODUCTION = "candidate", "production"
BALANCE = "mean_label"  # the share of positive examples, always reported
OF_BOTH_CLASSES = {"auc", "auc_precision_recall"}  # undefined if all examples are of one class


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
    beam_args: Parameter[str] = "",
    baseline_model: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Score the eval split with each model's serving signature, and compute `metrics` overall and per slice.

    Raw serialized examples go in, as in serving, so the transform inside each model is judged with it. Writes TFMA's
    own results (readable with tfma.load_eval_result) and evaluation.json (Evaluation).

    :param label: the label's column in the raw examples
    :param positive: JSON list of its values that count as 1
    :param metrics: JSON list of TFMA metric names, e.g. auc, binary_crossentropy
    :param slices: JSON list of columns to slice by
    :param production_version: the version of `baseline_model`, 0 without one
    :param beam_args: JSON list of Beam options; "" to run in this process
    """
    models = {CANDIDATE: path_utils.serving_model_path(model.uri)}
    if baseline_model is not None:
        models[PRODUCTION] = baseline_model.uri
    elif production_version:
        raise ValueError(f"version {production_version} is in production, but baseline_model is missing")
    slice_columns = json.loads(slices)
    metric_names = sorted({*json.loads(metrics), BALANCE})
    split = artifact_utils.get_split_uri([examples], "eval")
    output = Path(evaluation.uri)
    scorer = Scorer(models, label, json.loads(positive), slice_columns)
    if beam_args:
        rows = reader(split, raw_record_column=RAW).BeamSource() | beam.FlatMap(scorer.rows)
        options = pipeline_options(json.loads(beam_args))
        write_results_on_beam(rows, list(models), metric_names, slice_columns, output, options)
    else:
        scored = chain.from_iterable(map(scorer.score, record_batches(split, raw_record_column=RAW)))
        write_results(scored, list(models), metric_names, slice_columns, output)

    several = len(models) > 1
    results = {name: tfma.load_eval_result(str(output), model_name=name if several else None) for name in models}
    measured = {name: _by_slice(result) for name, result in results.items()}
    counts = {key: int(values["example_count"]) for key, values in measured[CANDIDATE].items()}
    for values in chain.from_iterable(by_slice.values() for by_slice in measured.values()):
        del values["example_count"]
        if values[BALANCE] in (0, 1):
            for name in OF_BOTH_CLASSES & values.keys():
                del values[name]  # TFMA reports an undefined value as 0
    Evaluation(
        examples=counts,
        candidate=measured[CANDIDATE],
        production=measured.get(PRODUCTION),
        production_version=production_version or None,
    ).save(output / "evaluation.json")
    log.info("scored %d examples with %s", counts[OVERALL], " and ".join(models))
    for name, by_slice in measured.items():
        log.info("%s: %s", name, ", ".join(f"{k} {v:.4f}" for k, v in by_slice[OVERALL].items()))


def _by_slice(result: tfma.EvalResult) -> dict[str, dict[str, float]]:
    """Return slice -> metric -> value. A slice is named column=value, and OVERALL is the whole split."""
    by_slice = {}
    for key, outputs in result.slicing_metrics:
        metrics = outputs[""][""]
        values = {name: float(metric["doubleValue"]) for name, metric in metrics.items() if "doubleValue" in metric}
        by_slice["".join(f"{column}={value}" for column, value in key)] = values
    return by_slice
