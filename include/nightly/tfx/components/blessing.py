"""Write and read a gate's decision in the form of TFX's own blessings."""

import json
import logging
from pathlib import Path

from tfx.components.evaluator import constants
from tfx.types.artifact import Artifact

from nightly.records.night import GateResult


def bless(blessing: Artifact, result: GateResult, log: logging.Logger) -> None:
    """Write the decision into the artifact, and the findings that hold into the log."""
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    name = constants.BLESSED_FILE_NAME if result.passed else constants.NOT_BLESSED_FILE_NAME
    (folder / name).touch()
    (folder / "gate.json").write_text(json.dumps(result.model_dump(mode="json"), indent=2))
    value = constants.BLESSED_VALUE if result.passed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    for reason in result.held_for:
        log.warning("HELD by %s: %s", reason.check, reason.message)
    log.info("the %s gate %s; %d findings", result.gate, "passed" if result.passed else "HELD", len(result.reasons))


def is_blessed(blessing: Artifact) -> bool:
    return (Path(blessing.uri) / constants.BLESSED_FILE_NAME).exists()
