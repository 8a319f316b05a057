"""A real Airflow for the module's tests: scheduler, API server and DAG processor over SQLite, with the real ML side."""

import json
from pathlib import Path

import pytest

from local.airflow import LocalAirflow
from local.serving import LocalModelServer
from nightly.io.paths import Paths
from tests.support.airflow_nights import DAGS, Nights
from tests.support.data import TAXI

TEST_SECONDS = 2700  # a test has several nights, beside the tests of the ML side on two cores


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for mark in (pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(TEST_SECONDS)):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def trips() -> Path:
    """The CSV file of taxi trips."""
    return TAXI


@pytest.fixture(scope="session")
def nights(tmp_path_factory, warm):
    var = tmp_path_factory.mktemp("var")
    source = var / "source" / "trips.csv"
    source.parent.mkdir()
    source.write_bytes(TAXI.read_bytes())
    paths = Paths.from_environment({"NIGHTLY_VAR": str(var)})
    environment = warm | {
        "NIGHTLY_VAR": str(var),
        "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(source)}}),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    with (
        LocalModelServer.of_releases(paths, var / "serving.log").running() as server,
        LocalAirflow(var / "airflow", environment | server.environment).running() as airflow,
    ):
        for dag in DAGS:
            airflow.api("patch", f"dags/{dag}", json={"is_paused": False})
        yield Nights(airflow, var, server)


@pytest.fixture(autouse=True)
def nothing_runs_on(request):
    yield
    if "nights" in request.fixturenames:
        request.getfixturevalue("nights").end_all()
