"""Model analysis: score the new and the production model on the same examples, with TFMA's metrics."""

import json
import logging
from itertools import chain
from pathlib import Path

import apache_beam as beam
from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from nightly.engines.beam import pipeline_options
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.metrics import write_results, write_results_on_beam
from nightly.evaluation.record import BALANCE, CANDIDATE, PRODUCTION, evaluate
from nightly.evaluation.scoring import RAW, Scorer
from nightly.examples.reading import Reader, record_batches
from nightly.records.evaluation import OVERALL, Evaluation
from nightly.records.label_config import Kind, Label
from nightly.records.label_spec import LabelSpec
from nightly.records.metrics import OF_CLASSES, of_class
from nightly.records.release import JUDGED
from nightly.training.errors import ModelError

log = logging.getLogger("nightly")

ALWAYS: dict[Kind, tuple[str, ...]] = {"binary": (BALANCE,), "classes": (), "number": (BALANCE,)}


@component
def SideBySideEvaluator(
    examples: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    label: Parameter[str],
    metrics: Parameter[str],
    slices: Parameter[str],
    production_version: Parameter[int],
    weight_column: Parameter[str] = "",
    id_columns: Parameter[str] = "[]",
    unmeasured: Parameter[str] = "",
    beam_args: Parameter[str] = "",
    baseline_model: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Score the eval split with each model's serving signature, and compute `metrics` overall and per slice.

    Raw serialized examples go in, as in serving, so the transform inside each model is judged with it. Writes TFMA's
    own results (readable with tfma.load_eval_result) and evaluation.json (Evaluation).

    :param label: the config's data.label as JSON
    :param metrics: JSON list of metric names, e.g. auc, binary_crossentropy
    :param slices: JSON list of columns to slice by
    :param production_version: the version of `baseline_model`, 0 without one
    :param weight_column: the column of the examples' weights; "" if every example weighs 1
    :param id_columns: JSON list of the columns that identify an example in a message
    :param unmeasured: why the baseline is not to be measured; "" if it is
    :param beam_args: JSON list of Beam options; "" to run in this process
    """
    configured = TypeAdapter(Label).validate_json(label)
    models = {CANDIDATE: path_utils.serving_model_path(model.uri)}
    if baseline_model is not None:
        models[PRODUCTION] = str(judged_model(Path(baseline_model.uri)))
    elif production_version:
        raise ValueError(f"version {production_version} is in production, but baseline_model is missing")
    specs = {name: LabelSpec.of_model(Path(path), configured) for name, path in models.items()}
    _check(specs[CANDIDATE], configured)
    if PRODUCTION in specs and (labels := specs[PRODUCTION].apart_from(specs[CANDIDATE])):
        unmeasured = f"version {production_version} in production predicts {labels[0]}, and this model {labels[1]}"
    if PRODUCTION in models and unmeasured:
        log.warning("%s: it is not measured", unmeasured)
        del models[PRODUCTION]

    classes = specs[CANDIDATE].classes
    names = _metric_names(configured.kind, json.loads(metrics), classes)
    plan = Plan(configured.kind, list(models), names, json.loads(slices), classes, bool(weight_column))
    contents = [artifact.uri for artifact in (model, baseline_model) if artifact is not None]
    scorer = Scorer(
        models, specs, configured, plan.slices, weight_column, classes, contents, id_columns=json.loads(id_columns)
    )
    split, output = artifact_utils.get_split_uri([examples], "eval"), Path(evaluation.uri)
    if beam_args:
        rows = Reader(examples.uri, split, raw_record_column=RAW).source() | beam.FlatMap(scorer.score)
        measured, values = write_results_on_beam(rows, plan, output, pipeline_options(json.loads(beam_args)))
    else:
        scored = chain.from_iterable(map(scorer.score, record_batches(split, raw_record_column=RAW)))
        measured, values = write_results(scored, plan, output)

    evaluated = evaluate(measured, values, specs[CANDIDATE], production_version or None, unmeasured)
    evaluated.save(output / Evaluation.FILE)
    log.info("scored %d examples with %s", evaluated.examples[OVERALL], " and ".join(models))
    _log_metrics(measured, evaluated)


def judged_model(version: Path) -> Path:
    """Return the model of a version that its gate judged: a version that was trained again has seen these examples."""
    return version / JUDGED if (version / JUDGED).is_dir() else version


def _metric_names(kind: Kind, configured: list[str], classes: list[str]) -> list[str]:
    """Return the configured metrics, and those that are always measured, each class's among them."""
    names = {*configured, *ALWAYS[kind]}
    return sorted(names | {of_class(metric, name) for metric in OF_CLASSES[kind] for name in classes})


def _log_metrics(measured: Measured, evaluated: Evaluation) -> None:
    for name, bad in measured.not_finite.items():
        log.warning("%s %s: it is not measured", name, bad.describe(measured.examples))
    for name in measured.sound.models:
        by_name = getattr(evaluated, name)[OVERALL]
        log.info("%s: %s", name, ", ".join(f"{k} {v:.4f}" for k, v in by_name.items() if ":" not in k))


def _check(spec: LabelSpec, label: Label) -> None:
    """Raise ModelError if the new model does not predict the configured label."""
    if spec.kind != label.kind:
        raise ModelError(
            f"data.label.kind is {label.kind!r}, and the model predicts a label of kind {spec.kind!r}: export it with "
            "nightly.training.export, or write assets.extra/label.json in its run_fn"
        )
    if spec.kind == "classes" and len(spec.classes) < 2:
        raise ModelError("assets.extra/label.json of the model names fewer than two classes: list them in its order")
