"""What a night's model is made of, as one hash. A model that was taken back is known by it, however often and with
whatever files it is computed again.
"""

import hashlib
import json
from pathlib import Path

from nightly.models import config_of
from nightly.records.night import Night
from nightly.schemas.curated import schema_fingerprint
from nightly.tfx.reuse import USER_CODE, code_of, code_of_model

# What makes the examples, the transform and the model, on any engine. What judges or serves is left out.
MODULES = (
    "nightly.tfx.components.examples",
    "nightly.tfx.components.transform",
    "nightly.training.transforming",
    "nightly.training.run",
)


def recipe(night: Night, snapshot_id: str, schema: Path) -> str:
    """A hash of the snapshot, the code and the settings; not of the date, the thresholds, or where files are."""
    parts = {
        "snapshot": snapshot_id,
        "schema": schema_fingerprint(schema),
        "train steps": str(night.train_steps),
        **dict(code_of_model(config_of(night), *USER_CODE.values())),
        **dict(code_of(MODULES)),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
