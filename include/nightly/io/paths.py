"""Where things are. Everything lies under var/ unless an environment variable names another place."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "include/models"


@dataclass(frozen=True)
class Places:
    """Every folder the project writes to, and the ML environment's Python."""

    var: Path  # NIGHTLY_VAR
    downloads: Path  # NIGHTLY_DOWNLOADS: <model>/<night>/ bodies as they came
    snapshots: Path  # NIGHTLY_SNAPSHOTS: <model>/<snapshot id>/
    nights: Path  # NIGHTLY_NIGHTS: <model>/<night>/ one JSON file a step
    baselines: Path  # NIGHTLY_BASELINES: <model>/ statistics of accepted snapshots
    pipeline: Path  # NIGHTLY_PIPELINE: <model>/<node>/ TFX artifacts
    metadata: Path  # NIGHTLY_METADATA: <model>.sqlite
    serving: Path  # NIGHTLY_SERVING: <model>/<version>/, the volume TensorFlow Serving watches
    releases: Path  # NIGHTLY_RELEASES: <model>/<version>.json
    predictions: Path  # NIGHTLY_PREDICTIONS: <model>/ what clients log of requests and answers
    feedback: Path  # NIGHTLY_FEEDBACK: <model>/ labels that became known later, as files
    schemas: Path  # NIGHTLY_SCHEMAS: <model>/<version>.pbtxt, approved on top of the curated schema
    run: Path  # NIGHTLY_RUN: sockets and locks
    ml_python: Path  # NIGHTLY_ML_PYTHON

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Places":
        var = Path(environment.get("NIGHTLY_VAR", ROOT / "var")).absolute()

        def place(name: str, default: Path) -> Path:
            return Path(environment.get(f"NIGHTLY_{name.upper()}", default)).absolute()

        names = ("downloads", "snapshots", "nights", "baselines", "pipeline")
        names += ("metadata", "serving", "releases", "predictions", "feedback", "schemas", "run")
        folders = {name: place(name, var / name) for name in names}
        return cls(var=var, ml_python=place("ml_python", ROOT / ".venv/ml/bin/python"), **folders)

    def night(self, model: str, run_id: str) -> Path:
        """The folder of one night's records."""
        return self.nights / model / safe_name(run_id)


def safe_name(run_id: str) -> str:
    """A run id as a folder's name: scheduled__2016-01-02T03:00:00+00:00 -> scheduled__2016-01-02T03-00-00-00-00."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run_id).strip(".-") or "run"


def python_path(root: Path = ROOT) -> str:
    """PYTHONPATH for a process that runs the project in the folder `root`."""
    return os.pathsep.join(str(root / folder) for folder in ("", "include", "client", "server"))
