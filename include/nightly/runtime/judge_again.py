"""The step data_gate_again: the night's data, read and judged anew by the schema that a person has just approved.

In one process and without tasks of their own: a person waits, and few nights come here. It begins with the snapshot,
since an approved type changes how a column is read; where none did, it is the same snapshot again.
"""

import logging
from pathlib import Path
from typing import Any

from nightly.io.paths import Paths
from nightly.nights.steps import DATA_STEPS
from nightly.runtime import worker

log = logging.getLogger("nightly")


def run(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """What the data gate decides."""
    found: dict[str, Any] = {}
    for step in DATA_STEPS:
        log.info("%s, again", step)
        found = worker.step_function(step)(night_folder, paths)
    return found
