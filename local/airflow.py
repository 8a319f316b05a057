"""A whole Airflow on this machine, for `make up`, the demo and tests: own home, free ports, SQLite, LocalExecutor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from local.child import Child
from nightly.io.paths import ROOT
from nightly.io.polling import poll

START_SECONDS = 600  # on a starved machine; one that ends is not waited for
WARM_SECONDS = 180  # for the first answer of each path below, on a loaded machine
# What a person's browser and a command ask first. The API server imports and compiles much when it is first asked.
FIRST_PATHS = ("/", "/ui/config", "/ui/dags", "/ui/dashboard/dag_stats", "/api/v2/dags", "/nightly/")


class AirflowDidNotStart(Exception):
    """The message holds the end of Airflow's own log."""


class LocalAirflow:
    """Airflow's processes, its REST API and its command line, over one home.

    :param home: AIRFLOW_HOME; database, logs and password are there
    :param environment: more variables, e.g. NIGHTLY_VAR or AIRFLOW_CONN_…
    :param port: of the UI and the API; 0 takes a free one
    """

    def __init__(self, home: Path, environment: dict[str, str] | None = None, port: int = 0) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.log = home / "airflow.log"
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            **(environment or {}),
        }
        self._child: Child | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # it is on this machine: no proxy, no .netrc

    @contextmanager
    def running(self) -> Iterator[LocalAirflow]:
        """Start Airflow and wait until it answers; stop all of it at the end."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        self._child = Child([str(ROOT / "bin/airflow"), "standalone"], self.log, self.environment)
        try:
            self._wait_until_ready(self._child)
            self._warm()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process, asking first."""
        if self._child is not None:
            self._child.stop()

    def wait(self) -> None:
        """Block until Airflow ends by itself or Ctrl-C."""
        if self._child is not None:
            self._child.wait()

    def cli(self, *arguments: str, check: bool = True) -> str:
        """Run `airflow ARGUMENTS` over this home; returns what it printed."""
        done = subprocess.run(
            [ROOT / "bin/airflow", *arguments], env=self.environment, capture_output=True, text=True, timeout=300
        )
        if check and done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the REST API, e.g. api("get", "dags"); returns the decoded answer. Raises requests.HTTPError."""
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=60, **arguments)
        if answer.status_code == 401:
            self._log_in()
            answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=60, **arguments)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:2000]}", response=answer)
        return answer.json() if answer.content else None

    def backfill(self, dag: str, first: str, last: str, conf: dict[str, Any], at_once: int = 1) -> None:
        """`airflow backfill create` for the days `first` to `last`, so many runs at once.

        Waits for an earlier backfill to be over: a DAG has one at a time, and the scheduler notices its end every 30 s.
        """
        poll(lambda: all(b["completed_at"] for b in self._backfills(dag)), every=1)
        window = ["--from-date", first, "--to-date", f"{last}T23:59"]
        how = ["--max-active-runs", str(at_once), "--dag-run-conf", json.dumps(conf)]
        self.cli("backfill", "create", "--dag-id", dag, *window, *how)

    @property
    def password(self) -> str:
        """The admin's, which Airflow made at its first start."""
        path = self.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(path.read_text())["admin"])

    def _log_in(self) -> None:
        answer = self._session.post(
            f"{self.url}/auth/token", json={"username": "admin", "password": self.password}, timeout=60
        )
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _warm(self) -> None:
        """Ask what is asked first, as the admin, so that nobody else waits for it; what does not answer stays cold."""
        for path in FIRST_PATHS:
            with suppress(requests.RequestException):
                self._session.get(f"{self.url}{path}", timeout=WARM_SECONDS)

    def _wait_until_ready(self, child: Child) -> None:
        if not child.wait_for(self._is_ready, START_SECONDS):
            tail = child.last_lines(40)
            raise AirflowDidNotStart(f"Airflow did not start on {self.url}; {self.log} ends:\n{tail}")

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException, FileNotFoundError, KeyError, ValueError):
            health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            parts = ("metadatabase", "scheduler", "dag_processor")
            return all(health[part]["status"] == "healthy" for part in parts) and bool(self.api("get", "dags")["dags"])
        return False

    def _backfills(self, dag: str) -> list[dict[str, Any]]:
        return self.api("get", "backfills", params={"dag_id": dag})["backfills"]


def free_port(preferred: int = 0) -> int:
    """A port of this machine that nothing listens on; `preferred` if it is such a one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
