"""An Airflow whose scheduler does not load the plugin, as on a managed one: nights run, and what is missing is said."""

import json
from pathlib import Path

import pytest

from local.airflow import LocalAirflow
from local.child import Child
from nightly.io.paths import ROOT, python_path
from nightly.io.polling import poll
from nightly.records.verdict import Outcome
from nightly_airflow.web.records import Records
from tests.support.airflow_nights import Nights

DAG = "taxi_retrain"


class ManagedAirflow(LocalAirflow):
    """Components of their own: only the API server loads the plugin, until the DAG processor is started with it."""

    def start(self) -> None:
        self.children: dict[str, Child] = {}
        self.cli("db", "migrate")
        self._component("api-server", ROOT / "plugins")
        self._child = self._component("scheduler", self.home / "no-plugins")
        self.start_dag_processor(self.home / "no-plugins")
        self._wait_until_ready(self._child)

    def start_dag_processor(self, plugins: Path) -> None:
        if "dag-processor" in self.children:
            self.children["dag-processor"].stop()
        self._component("dag-processor", plugins)

    def stop(self) -> None:
        for child in self.children.values():
            child.stop()

    def _component(self, name: str, plugins: Path) -> Child:
        """Start a component. Its Python finds the modules in plugins/ in any case, as DAG files import them."""
        plugins.mkdir(parents=True, exist_ok=True)
        environment = self.environment | {"AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins), "PYTHONPATH": python_path()}
        child = Child([str(ROOT / "bin/airflow"), name], self.home / f"{name}.log", environment)
        self.children[name] = child
        return child


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    var = tmp_path_factory.mktemp("managed")
    trips = var / "trips.csv"
    trips.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    environment = {
        "NIGHTLY_VAR": str(var),
        "NIGHTLY_ML_PYTHON": str(ROOT / "tests/support/scripted_ml.py"),
        "NIGHTLY_WARM": "0",
        "NIGHTLY_POOL": "",  # the plugin has set it in this process if another test has loaded it
        "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    with ManagedAirflow(var / "airflow", environment).running() as airflow:
        airflow.api("patch", f"dags/{DAG}", json={"is_paused": False})
        yield Nights(airflow, var)


def night(nights: Nights, day: str) -> tuple[str, dict[str, str], set[str]]:
    """Run a night of this day; return the run's id, the tasks' states and their pools."""
    body = {"logical_date": f"{day}T03:00:00Z", "conf": {}}
    run = nights.airflow.api("post", f"dags/{DAG}/dagRuns", json=body)["dag_run_id"]
    states = nights.wait(DAG, run)
    tasks = nights.airflow.api("get", f"dags/{DAG}/dagRuns/{run}/taskInstances", params={"limit": 100})
    return run, states, {task["pool"] for task in tasks["task_instances"]}


def test_no_step_waits_for_a_pool_that_is_not_there_and_what_is_missing_is_said(managed, monkeypatch):
    doc = managed.airflow.api("get", f"dags/{DAG}/details")["doc_md"]
    assert "Airflow's DAG processor does not load the plugin" in " ".join(doc.split())

    first, states, pools = night(managed, "2016-01-02")
    assert (states["release"], states["verdict"], pools) == ("success", "success", {"default_pool"})
    assert managed.run(DAG, first)["note"] is None
    assert "has ended without a note" not in managed.log(DAG, first, "plan")

    second, _, _ = night(managed, "2016-01-03")
    log = managed.log(DAG, second, "plan")
    assert f"the run {first} has ended without a note, so this Airflow's scheduler does not load the plugin" in log

    monkeypatch.setenv("NIGHTLY_VAR", str(managed.var))
    assert {record.verdict.outcome for record in Records().nights("taxi")} == {Outcome.RELEASED}
    assert [pool["name"] for pool in managed.airflow.api("get", "pools")["pools"]] == ["default_pool"]


def test_a_dag_processor_with_the_plugin_makes_the_pool_and_names_it(managed):
    managed.airflow.start_dag_processor(ROOT / "plugins")
    assert poll(
        lambda: "**Pool of the steps**: `ml`" in managed.airflow.api("get", f"dags/{DAG}/details")["doc_md"],
        seconds=300,
        every=1,
    )
    assert {pool["name"]: pool["slots"] for pool in managed.airflow.api("get", "pools")["pools"]}["ml"] == 2
    _, states, pools = night(managed, "2016-01-04")
    assert (states["verdict"], pools) == ("success", {"default_pool", "ml"})
