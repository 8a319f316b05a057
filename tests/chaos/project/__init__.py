"""A copy of the project for a campaign: with a small model, and as it is when the campaign begins."""

import re
import shutil
from pathlib import Path

from nightly.io.paths import ROOT

HERE = Path(__file__).parent
PARTS = (
    "bin",
    "client",
    "include",
    "local",
    "plugins",
    "server",
    "setup",
    "tests",
    "airflow.env",
    "docker-compose.yaml",
)
COMPARATORS = re.compile(r"^\s*(drift|skew)_comparator .*\n", re.M)


def copy_project(to: Path) -> Path:
    """Copy the project to the folder `to`, where its only model is a small one; returns `to`.

    Whoever works on the project meanwhile changes nothing for the campaign.
    """
    for name in PARTS:
        source, target = ROOT / name, to / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (to / ".venv").symlink_to((ROOT / ".venv").resolve())
    model = to / "include/models/taxi"
    for other in ("complaints", "fares"):
        shutil.rmtree(to / "include/models" / other)
    shutil.copy(HERE / "config.toml", model)
    schema = model / "schema.pbtxt"
    schema.write_text(COMPARATORS.sub("", schema.read_text()))
    (to / "dags").mkdir()
    shutil.copy(HERE / "taxi_retrain.py", to / "dags")
    shutil.copy(ROOT / "dags/rollback.py", to / "dags")
    return to
