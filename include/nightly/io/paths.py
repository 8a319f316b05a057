"""The project's paths: below var/, unless an environment variable sets another path."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nightly.io import variables

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "include/models"
RECORDS = ("nights", "releases", "schemas", "downloads")  # the folders that a session with a bucket has of its own


@dataclass(frozen=True)
class Paths:
    """Every folder that the project writes to, and the ML environment's Python; see nightly.io.variables."""

    var: Path
    downloads: Path
    snapshots: Path
    nights: Path
    baselines: Path
    pipeline: Path
    metadata: Path
    serving: Path
    releases: Path
    predictions: Path
    feedback: Path
    schemas: Path
    run: Path
    ml_python: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Paths":
        def path(variable: variables.Variable, base: Path) -> Path:
            value = environment.get(variable.name)
            return Path(value).absolute() if value else base / variable.default

        state = variables.STATE.read(environment)
        var = path(variables.VAR, ROOT) if "://" in state or not state else Path(state).absolute()
        folders = {name: path(variable, var) for name, variable in variables.FOLDER_VARIABLES.items()}
        if session := variables.SESSION.read(environment):
            folders |= {name: Path(session) / name for name in RECORDS}
        return cls(var=var, ml_python=path(variables.ML_PYTHON, ROOT), **folders)

    def night(self, model: str, run_id: str) -> Path:
        """Return the folder of one night's records."""
        return self.nights / model / safe_name(run_id)


def safe_name(run_id: str) -> str:
    """Return a folder's name for a run id.

    scheduled__2016-01-02T03:00:00+00:00 -> scheduled__2016-01-02T03-00-00-00-00
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run_id).strip(".-") or "run"


def python_path(root: Path = ROOT) -> str:
    """Return PYTHONPATH for a process that runs the project in the folder `root`."""
    return os.pathsep.join(str(root / folder) for folder in ("", "include", "client", "server", "plugins"))
