"""A hash of everything that determines a night's model.

A withdrawn model is recognized by its recipe, even if it is computed again and its files differ.
"""

import hashlib
import json
from pathlib import Path

from nightly.models import config_of
from nightly.records.night import Night
from nightly.schemas.curated import schema_fingerprint
from nightly.tfx.reuse import USER_CODE, code_of, code_of_model

# The code that produces examples, transform and model, on any engine. Code that judges or serves is left out.
MODULES = (
    "nightly.tfx.components.examples",
    "nightly.tfx.components.transform",
    "nightly.training.transforming",
    "nightly.training.run",
)


def recipe(night: Night, snapshot_id: str, schema: Path) -> str:
    """Return a hash of snapshot, schema, code and settings, but not of date, thresholds or file locations."""
    parts = {
        "snapshot": snapshot_id,
        "schema": schema_fingerprint(schema),
        "train steps": str(night.train_steps),
        **dict(code_of_model(config_of(night), *dict.fromkeys(USER_CODE.values()))),
        **dict(code_of(MODULES)),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
