"""The step data_gate_again: rerun the data steps with the schema that a person has just approved.

The steps run in one process, not as tasks, because a person waits and few nights need them. They start with the
snapshot, because an approved type changes how a column is read. Without such a change the snapshot is the same.
"""

import logging
from pathlib import Path
from typing import Any

from nightly.io.paths import Paths
from nightly.nights.steps import DATA_STEPS
from nightly.runtime import worker

log = logging.getLogger("nightly")


def run(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Run the data steps and return the data gate's result."""
    result: dict[str, Any] = {}
    for step in DATA_STEPS:
        log.info("%s, again", step)
        result = worker.step_function(step)(night_folder, paths)
    return result
