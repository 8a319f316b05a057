"""Run one step of a night in a Kubernetes pod: python -m nightly.runtime.pod STEP MODEL RUN_ID

The step works in a session of its own with the state. Its result or error is then a record of the night, which names
the pod (NIGHTLY_POD): the Airflow task reads it there, whatever became of the pod and its log, and however long it is.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from nightly.io import variables
from nightly.io.paths import safe_name
from nightly.records.pod_result import PodResult
from nightly.runtime import worker
from nightly.state import current

TERMINATED = 128 + signal.SIGTERM


def main(step: str, model: str, run_id: str) -> int:
    """Run the step, record its result or error, and return the exit status."""
    # The kernel ignores SIGTERM for a container's first process, unless it is handled. Nothing is pushed then.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        status = worker.run(step, Path(model, safe_name(run_id)), file)
        result = PodResult(pod=variables.POD.read(), **json.loads(file.read_text()))
    with current().session(model) as paths:
        result.save(PodResult.path(paths.night(model, run_id), step))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
