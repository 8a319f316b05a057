"""The model gate: absolute bounds, and the change against the model in production, overall and per slice."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from nightly.models import config_of
from nightly.records.config import Bound, ModelConfig
from nightly.records.evaluation import OVERALL, Evaluation
from nightly.records.night import AGAINST_PRODUCTION, GateResult, Night, Reason, utc_now
from nightly.release.errors import ProductionChanged
from nightly.tfx.components.blessing import bless

log = logging.getLogger("nightly")

NO_PRODUCTION = "no model is in production yet"


@component
def ModelGate(
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    night_folder: Parameter[str],
) -> None:
    """Judge the night's model by the config's bounds and write model_gate.json.

    :param night_folder: the folder of request.json
    """
    folder = Path(night_folder)
    night = Night.load(folder / "request.json")
    measured = Evaluation.load(Path(evaluation.uri) / "evaluation.json")
    if measured.production_version != night.production_version:
        raise ProductionChanged(
            f"the night is to be judged against version {night.production_version}, and its model was evaluated beside "
            f"version {measured.production_version}: clear `evaluator` with what is downstream"
        )
    measured.save(folder / "evaluation.json")  # every metric, for the night's page; the gate judges some
    damaged = f"version {night.damaged_version} in production is damaged" if night.damaged_version else NO_PRODUCTION
    reasons = [*_notes(night), *judge(config_of(night), measured, damaged)]
    passed = not any(reason.held for reason in reasons)
    result = GateResult(gate="model", passed=passed, reasons=reasons, decided_at=utc_now())
    result.save(folder / "model_gate.json")
    bless(blessing, result, log)


def _notes(night: Night) -> Iterator[Reason]:
    if night.production_note:
        figure = str(night.production_version or "nothing")
        yield Reason(
            check="production", subject="", figure=figure, threshold=None, held=False, message=night.production_note
        )

    if night.damage:
        lost = night.damaged_version is not None
        held = lost and config_of(night).model_gate.damaged_production == "hold"
        yield Reason(
            check="production",
            subject=f"version {night.in_production}",
            figure="damaged" if lost else "repaired",
            threshold=None,
            held=held,
            severity="error" if held else "warning",
            message=night.damage,
            action=f"Put a whole copy back (bin/releases repair {night.model}), and clear `evaluator` with what is "
            "downstream; or run the night with model_gate.damaged_production = bounds_only.",
        )


def judge(config: ModelConfig, measured: Evaluation, unjudged: str = NO_PRODUCTION) -> Iterator[Reason]:
    """Yield a finding for each bound of the config.

    :param unjudged: why there is no production model to compare with, if there is none
    """
    gate = config.model_gate
    for metric, bound in gate.metrics.items():
        yield from _judge_slice(metric, bound, OVERALL, measured)
    for key, examples in sorted(measured.examples.items()):
        if key == OVERALL:
            continue
        for metric, bound in gate.slice_metrics.items():
            if examples >= gate.min_slice_rows:
                yield from _judge_slice(metric, bound, key, measured)
    if measured.production is None and any(
        b.max_drop is not None or b.max_rise is not None for b in (*gate.metrics.values(), *gate.slice_metrics.values())
    ):
        yield Reason(
            check="change",
            subject="",
            figure=None,
            threshold=None,
            held=False,
            message=f"the change against production was not judged: {unjudged}",
        )


def _judge_slice(metric: str, bound: Bound, key: str, measured: Evaluation) -> Iterator[Reason]:
    where = f"{metric} of {key}" if key else metric
    subject = key or "all examples"
    figure = measured.candidate[key].get(metric)
    if figure is None or figure != figure:  # NaN: TFMA could not compute it, e.g. AUC where only one class is present
        yield Reason(
            check=metric,
            subject=subject,
            figure=None,
            threshold=bound.floor if bound.floor is not None else bound.ceiling,
            held=key == OVERALL,
            message=f"{where} could not be computed on {measured.examples[key]:,} examples",
        )
        return
    if bound.floor is not None or bound.ceiling is not None:
        threshold = bound.floor if bound.floor is not None else bound.ceiling
        held = figure < bound.floor if bound.floor is not None else figure > bound.ceiling
        yield Reason(
            check=metric,
            subject=subject,
            figure=round(figure, 5),
            threshold=threshold,
            held=held,
            message=f"{where} is {figure:.4f}; "
            + (f"at least {threshold:g}" if bound.floor is not None else f"at most {threshold:g}")
            + " is required",
            action="The model learned too little: look at the training log, the label's share and the steps.",
        )
    allowed = bound.max_drop if bound.max_drop is not None else bound.max_rise
    if allowed is None or measured.production is None or key not in measured.production:
        return
    production = measured.production[key].get(metric, float("nan"))
    worse = production - figure if bound.max_drop is not None else figure - production
    if worse != worse:
        return
    yield Reason(
        check=metric + AGAINST_PRODUCTION,
        subject=subject,
        figure=round(figure - production, 5),
        threshold=-allowed if bound.max_drop is not None else allowed,
        held=worse > allowed,
        message=f"{where} is {figure:.4f}, and {production:.4f} in production: "
        f"{'worse' if worse > 0 else 'better'} by {abs(worse):.4f}; {allowed:g} worse is allowed",
        action="The model in production is better on the same examples: it stays.",
    )
