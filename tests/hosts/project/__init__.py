"""A copy of the project for hosts: two models of small windows, whose gates hold no ordinary night."""

import shutil
from pathlib import Path

from nightly.io.paths import ROOT
from tests.chaos.project import COMPARATORS, copy_project

HERE = Path(__file__).parent
MODELS = ("taxi", "fares")
TRIPS = "source/trips.csv"
DAG = '''"""The nightly retrain of {model}, with the bounds of the tests of hosts."""

import datetime as dt
import os

from nightly_airflow.retrain import retrain_dag

RETRY = dt.timedelta(seconds=float(os.environ["HOSTS_RETRY_SECONDS"]))

dag = retrain_dag("{model}")
for task in dag.tasks:
    task.retry_delay = min(task.retry_delay, RETRY)
    task.max_retry_delay = 2 * RETRY
'''


def copy_for_hosts(to: Path, trips: Path) -> Path:
    """Copy the project to `to`, with the models taxi and fares, which read a copy of the CSV file `trips`."""
    copy_project(to)
    fares = to / "include/models/fares"
    shutil.copytree(ROOT / "include/models/fares", fares, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "fares.toml", fares / "config.toml")
    schema = fares / "schema.pbtxt"
    schema.write_text(COMPARATORS.sub("", schema.read_text()))
    for model in MODELS:
        (to / f"dags/{model}_retrain.py").write_text(DAG.format(model=model))
    (to / TRIPS).parent.mkdir()
    shutil.copy(trips, to / TRIPS)
    return to
