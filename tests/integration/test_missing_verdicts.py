"""A verdict that never begins: Airflow's API does not let it, and the scheduler gives it."""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest
import requests

from local.airflow import LocalAirflow, free_port
from nightly.io.polling import poll
from nightly.records.verdict import Outcome, Verdict
from tests.support.airflow_nights import Nights
from tests.support.receivers import web_server

DAG_FILE = """
import datetime as dt

from nightly_airflow.retrain import retrain_dag

dag = retrain_dag("taxi")
for task in dag.tasks:
    task.retry_delay = dt.timedelta(seconds=1)
    task.retry_exponential_backoff = 0
"""


class Api:
    """Stands before Airflow's execution API, and hangs up on tasks that would begin.

    :param refuse: task -> how often it hangs up
    """

    def __init__(self, target: str, database: Path, port: int) -> None:
        self.refuse: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.endswith("/run") and api.hangs_up(self.path.split("/")[-2]):
                    self.close_connection = True
                    return
                left_out = ("host", "content-length", "accept-encoding", "connection")
                headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
                answer = requests.request(self.command, f"{target}{self.path}", data=body, headers=headers, timeout=60)
                self.send_response(answer.status_code)
                for name in ("Content-Type", "Content-Range", "Refreshed-API-Token"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

            def log_message(self, *_: object) -> None:
                pass

        self.database = database
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def hangs_up(self, instance: str) -> bool:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as database:
            query = "SELECT task_id FROM task_instance WHERE id IN (?, ?)"
            [task] = database.execute(query, (UUID(instance).hex, instance)).fetchone()
        if not self.refuse[task]:
            return False
        self.refuse[task] -= 1
        self.refused[task] += 1
        return True


@pytest.fixture(scope="module")
def airflow(tmp_path_factory) -> Iterator[tuple[Nights, Api, list]]:
    """A real Airflow whose ML steps are scripted, the API that its tasks ask, and what was notified."""
    var = tmp_path_factory.mktemp("var")
    (var / "dags").mkdir()
    (var / "dags/taxi_retrain.py").write_text(DAG_FILE)
    (var / "trips.csv").write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
    port, api_port = free_port(), free_port()
    with web_server() as (url, received):
        slack = {"conn_type": "slackwebhook", "password": f"{url}/services/T0/B0/secret"}
        environment = {
            "NIGHTLY_VAR": str(var),
            "NIGHTLY_ML_PYTHON": str(Path(__file__).parents[1] / "support/scripted_ml.py"),
            "NIGHTLY_WARM": "0",
            "NIGHTLY_TEST_SCRIPT": json.dumps({"data_gate": "hold"}),
            "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(var / "trips.csv")}}),
            "AIRFLOW_CONN_NIGHTLY_SLACK": json.dumps(slack),
            "AIRFLOW__CORE__DAGS_FOLDER": str(var / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        }
        local = LocalAirflow(var / "airflow", environment, port=port)
        api = Api(local.url, var / "airflow/airflow.db", api_port)
        threading.Thread(target=api.server.serve_forever, daemon=True).start()
        with local.running():
            local.api("patch", "dags/taxi_retrain", json={"is_paused": False})
            yield Nights(local, var), api, received
        api.server.shutdown()


def told(received: list) -> list[str]:
    return ["\n".join(block["text"]["text"] for block in body["blocks"]) for _, body in received]


def test_a_verdict_that_does_not_begin_at_first_is_tried_again(airflow):
    nights, api, received = airflow
    api.refuse["verdict"], api.refuse["data_gate"] = 1, 1
    run = nights.trigger("taxi_retrain")
    states = nights.wait("taxi_retrain", run)
    assert (states["data_gate"], states["verdict"], api.refused) == ("success",) * 2 + ({"verdict": 1, "data_gate": 1},)
    [message] = told(received)
    assert "HELD_DATA" in message and nights.run("taxi_retrain", run)["note"].startswith("**! HELD_DATA")


def test_a_night_whose_verdict_never_begins_gets_it_from_the_scheduler(airflow):
    nights, api, received = airflow
    received.clear()
    api.refuse["verdict"] = 100
    run = nights.trigger("taxi_retrain")
    states = nights.wait("taxi_retrain", run)
    assert (states["data_gate"], states["verdict"]) == ("success", "failed")

    has_verdict = poll(lambda: nights.run("taxi_retrain", run)["note"] and received, every=1, seconds=120)
    assert has_verdict, "the run has no note, or nobody was notified"
    assert nights.run("taxi_retrain", run)["note"].startswith("**! HELD_DATA: labels are few; it drifted")
    [message] = told(received)
    assert "HELD_DATA" in message
    verdict = Verdict.load(nights.folder("taxi_retrain", run) / "verdict.json")
    assert verdict.outcome is Outcome.HELD_DATA and verdict.run_url.endswith(quote(run))
