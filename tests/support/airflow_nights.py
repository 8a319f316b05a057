"""Nights in a real Airflow, through its API."""

import json
from collections.abc import Callable
from pathlib import Path

from local.airflow import LocalAirflow
from local.serving import LocalModelServer
from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.verdict import Verdict

NIGHT_SECONDS = 900  # beside the tests of the ML side, on two cores
DAGS = ("taxi_retrain", "complaints_retrain", "fares_retrain")


class Nights:
    """Start runs of one Airflow's DAGs, wait for them, and read what became of them."""

    def __init__(self, airflow: LocalAirflow, var: Path, server: LocalModelServer | None = None) -> None:
        self.airflow = airflow
        self.server = server
        self.var = var

    def trigger(self, dag: str, **conf) -> str:
        """A manual run without a date, as from the UI's button."""
        run = self.airflow.api("post", f"dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        return run["dag_run_id"]

    def backfill(self, dag: str, first: str, last: str, **conf) -> list[str]:
        """`airflow backfill create`, one night after the other; the run ids, oldest first."""
        there = {run["dag_run_id"] for run in self.runs(dag)}
        self.airflow.backfill(dag, first, last, conf)
        new = [run for run in self.runs(dag) if run["dag_run_id"] not in there]
        return [run["dag_run_id"] for run in sorted(new, key=lambda run: run["logical_date"])]

    def backfilled(self, dag: str, first: str, last: str, **conf) -> list[str]:
        """Do the same, and wait for every night."""
        runs = self.backfill(dag, first, last, **conf)
        for run in runs:
            self.wait(dag, run)
        return runs

    def runs(self, dag: str) -> list[dict]:
        return self.airflow.api("get", f"dags/{dag}/dagRuns", params={"limit": 100})["dag_runs"]

    def run(self, dag: str, run_id: str) -> dict:
        return self.airflow.api("get", f"dags/{dag}/dagRuns/{run_id}")

    def states(self, dag: str, run_id: str) -> dict[str, str]:
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances"
        tasks = self.airflow.api("get", path, params={"limit": 100})["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def wait(
        self, dag: str, run_id: str, seconds: int = NIGHT_SECONDS, meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, str]:
        """The tasks' states at the run's end; `meanwhile` is called again and again."""

        def has_ended() -> bool:
            meanwhile()
            return self.run(dag, run_id)["state"] in ("success", "failed")

        if not poll(has_ended, every=0.5, seconds=seconds):
            raise TimeoutError(f"{run_id} did not end within {seconds} s: {self.states(dag, run_id)}")
        return self.states(dag, run_id)

    def end_all(self) -> None:
        """A model's nights run one at a time: left as it is, a run would hold up those of all later tests."""
        for dag in DAGS:
            for run in self.runs(dag):
                if run["state"] in ("queued", "running"):
                    self.airflow.api("patch", f"dags/{dag}/dagRuns/{run['dag_run_id']}", json={"state": "failed"})

    def clear(self, dag: str, run_id: str, *tasks: str, downstream: bool = False) -> None:
        """Clear tasks of a run, as the UI's button does."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(tasks), "only_failed": False}
        body |= {"include_downstream": downstream, "reset_dag_runs": True}
        self.airflow.api("post", f"dags/{dag}/clearTaskInstances", json=body)

    def log(self, dag: str, run_id: str, task: str, attempt: int = 1) -> str:
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
        return json.dumps(self.airflow.api("get", path, params={"full_content": True}))

    def folder(self, dag: str, run_id: str) -> Path:
        return self.paths.night(dag.removesuffix("_retrain"), run_id)

    def verdict(self, dag: str, run_id: str) -> Verdict:
        return Verdict.load(self.folder(dag, run_id) / "verdict.json")

    def versions(self, model: str) -> list[int]:
        return sorted(int(p.name) for p in (self.var / "serving" / model).glob("*") if p.name.isdecimal())

    @property
    def paths(self) -> Paths:
        return Paths.from_environment({"NIGHTLY_VAR": str(self.var)})
