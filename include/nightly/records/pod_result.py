"""What a step that ran in a Kubernetes pod came to: a record of the night, which the Airflow task reads."""

import os
from pathlib import Path
from typing import Any

from nightly.io.paths import safe_name
from nightly.records.base import Contract

# Exit codes of a pod that cannot record a result, because the state refuses it or cannot be used now.
# The last line of its log is the error.
REFUSED, UNRECORDED = os.EX_NOPERM, os.EX_TEMPFAIL


class PodResult(Contract):
    """The result or the error of a step, as the worker writes it, and the pod that it is of."""

    pod: str
    value: Any = None
    error: str = ""
    retry: bool = True
    infrastructure: bool = False

    @staticmethod
    def path(night_folder: Path, step: str) -> Path:
        """Return where a night's folder has the result of `step`."""
        return night_folder / f"{safe_name(step)}.pod.json"
