"""The model gate: absolute bounds, and the change against the model in production, overall and per slice."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from nightly.evaluation.judging import NO_PRODUCTION, judge
from nightly.models import config_of
from nightly.records.evaluation import Evaluation
from nightly.records.night import GateResult, Night, Reason, utc_now
from nightly.release.errors import ProductionChanged
from nightly.tfx.components.blessing import bless

log = logging.getLogger("nightly")


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
    night = Night.load(folder / Night.FILE)
    measured = Evaluation.load(Path(evaluation.uri) / Evaluation.FILE)
    if measured.production_version != night.production_version:
        raise ProductionChanged(
            f"the night is to be judged against version {night.production_version}, and its model was evaluated beside "
            f"version {measured.production_version}: clear `evaluator` with what is downstream"
        )
    measured.save(folder / Evaluation.FILE)  # every metric, for the night's page; the gate judges some
    damaged = f"version {night.damaged_version} in production is damaged" if night.damaged_version else NO_PRODUCTION
    reasons = [*_notes(night), *judge(config_of(night), measured, damaged)]
    passed = not any(reason.held for reason in reasons)
    result = GateResult(gate="model", passed=passed, reasons=reasons, decided_at=utc_now())
    result.save(folder / GateResult.MODEL_FILE)
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
            subject=f"version {night.damaged_version or night.in_production}",
            figure="damaged" if lost else "repaired",
            threshold=None,
            held=held,
            severity="error" if held else "warning",
            message=night.damage,
            action=f"Put a whole copy back (bin/releases repair {night.model}), and clear `evaluator` with what is "
            "downstream; or run the night with model_gate.damaged_production = bounds_only.",
        )
