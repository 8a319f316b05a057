"""Run one step of a night in a Kubernetes pod: python -m nightly.runtime.pod STEP MODEL RUN_ID

The step works in a session of its own with the state. Its result or error is then a record of the night, which names
the pod (NIGHTLY_POD): the Airflow task reads it there, whatever became of the pod and its log, and however long it is.
"""

import os
import signal
import sys
from typing import Any

from nightly.io import variables
from nightly.records.pod_result import REFUSED, UNRECORDED, PodResult
from nightly.runtime import worker
from nightly.state import current
from nightly.state.errors import StateError

TERMINATED = 128 + signal.SIGTERM


def main(step: str, model: str, run_id: str) -> int:
    """Run the step, record its result or error, and return the exit status.

    If the state cannot be used, the last line of the log is the error, which becomes the pod's termination message.
    """
    # The kernel ignores SIGTERM for a container's first process, unless it is handled. Nothing is pushed then.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    status, result = _run(step, model, run_id)
    try:
        with current().session(model) as paths:
            night_folder = paths.night(model, run_id)
            PodResult(pod=variables.POD.read(), **result).save(PodResult.path(night_folder, step))
    except StateError as error:
        print(" ".join(worker.describe(error).split()), file=sys.stderr, flush=True)
        return UNRECORDED if getattr(error, "retry", True) else REFUSED
    return status


def _run(step: str, model: str, run_id: str) -> tuple[int, dict[str, Any]]:
    """Run the step in a session; return its exit status, and its result or error."""
    try:
        with current().session(model) as paths:
            return worker.perform(step, paths.night(model, run_id))
    except StateError as error:  # what the step did is not published
        retry = getattr(error, "retry", True)  # refused credentials are no passing error of the infrastructure
        return 1, {"error": worker.describe(error), "retry": retry, "infrastructure": retry}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
