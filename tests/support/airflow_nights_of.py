"""Nights of some models in a real Airflow of this checkout, as a process: a copy of the project runs its own code.

    python -m tests.support.airflow_nights_of VAR MODEL=AS_OF,AS_OF …

Prints a line of JSON for each night: model, run, outcome, summary, states, the page's text, and the server's versions.
"""

import json
import os
import sys
from pathlib import Path

import requests

from local.airflow import LocalAirflow
from local.serving import LocalModelServer
from nightly.io.paths import Paths
from nightly.io.polling import poll
from tests.support.airflow_nights import Nights


def main(var: Path, *asked: str) -> None:
    os.environ["NIGHTLY_VAR"] = str(var)
    environment = {"NIGHTLY_VAR": str(var), "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"}
    paths = Paths.from_environment()
    with (
        LocalModelServer.of_releases(paths, var / "serving.log").running() as server,
        LocalAirflow(var / "airflow", environment | server.environment).running() as airflow,
    ):
        nights = Nights(airflow, var, server)
        for words in asked:
            model, _, days = words.partition("=")
            poll(lambda model=model: unpaused(airflow, f"{model}_retrain"), seconds=120, every=1)
            for as_of in days.split(","):
                print(json.dumps(night(nights, model, as_of)), flush=True)


def unpaused(airflow: LocalAirflow, dag: str) -> bool:
    """Let the DAG run; return whether its file has been parsed by now. Airflow is ready with the first that is."""
    dags = {known["dag_id"] for known in airflow.api("get", "dags", params={"limit": 100})["dags"]}
    if dag in dags:
        airflow.api("patch", f"dags/{dag}", json={"is_paused": False})
    return dag in dags


def night(nights: Nights, model: str, as_of: str) -> dict:
    """Run one night that may release, and return what became of it."""
    dag = f"{model}_retrain"
    run = nights.trigger(dag, as_of=as_of, release="yes")
    states = nights.wait(dag, run)
    verdict = nights.verdict(dag, run)
    airflow, server = nights.airflow, nights.server
    page = airflow.page(f"/nightly/{model}/nights/{nights.folder(dag, run).name}")
    served = requests.get(f"{server.url}/v1/models/{model}/labels/stable", timeout=60)
    return {
        "model": model,
        "outcome": verdict.outcome,
        "summary": verdict.summary,
        "version": verdict.version,
        "metrics": verdict.metrics,
        "states": states,
        "page": page.text if page.ok else f"status {page.status_code}",
        "served": served.json(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
