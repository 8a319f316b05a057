"""A complete Airflow on this machine for `make up`, the demo and tests: own home, free ports, SQLite, LocalExecutor."""

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
from requests.adapters import HTTPAdapter, Retry

from local.child import Child
from nightly.io.paths import ROOT
from nightly.io.polling import poll

START_SECONDS = 600  # enough on a loaded machine; a process that ends fails at once
# A server may close a kept connection just as the next request is sent. Requests that change nothing are repeated.
READ_AGAIN = Retry(total=1, connect=0, respect_retry_after_header=False, allowed_methods={"GET", "HEAD"})
WARM_SECONDS = 180  # for the first response of each path below, on a loaded machine
# The first requests of a browser and a command. The API server imports and compiles much on its first requests.
FIRST_PATHS = ("/", "/ui/config", "/ui/dags", "/ui/dashboard/dag_stats", "/api/v2/dags", "/nightly/")


class AirflowDidNotStart(Exception):
    """Airflow did not start; the message quotes the end of its log."""


class LocalAirflow:
    """Airflow's processes, REST API and command line, with one home.

    :param home: AIRFLOW_HOME, with database, logs and password
    :param environment: additional variables, e.g. NIGHTLY_VAR or AIRFLOW_CONN_…
    :param port: the port of the UI and the API; 0 takes a free one
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
        self._session.trust_env = False  # local requests: no proxy, no .netrc
        self._session.mount("http://", HTTPAdapter(max_retries=READ_AGAIN))

    @contextmanager
    def running(self) -> Iterator[LocalAirflow]:
        """Start Airflow, wait until it is ready, and stop all its processes at the end."""
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
        """End every process: SIGTERM first, then SIGKILL."""
        if self._child is not None:
            self._child.stop()

    def wait(self) -> None:
        """Block until Airflow ends by itself, or Ctrl-C."""
        if self._child is not None:
            self._child.wait()

    def cli(self, *arguments: str, check: bool = True) -> str:
        """Run `airflow ARGUMENTS` with this home and return its output."""
        result = subprocess.run(
            [ROOT / "bin/airflow", *arguments], env=self.environment, capture_output=True, text=True, timeout=300
        )
        if check and result.returncode:
            raise RuntimeError(
                f"airflow {' '.join(arguments)} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
            )
        return result.stdout

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the REST API, e.g. api("get", "dags"), and return the decoded response. Raise requests.HTTPError."""
        response = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=60, **arguments)
        if response.status_code == 401 or "Invalid JWT" in response.text:  # 403: as when the server's clock jumps
            self._log_in()
            response = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=60, **arguments)
        if not response.ok:
            raise requests.HTTPError(
                f"{method} {path}: {response.status_code} {response.text[:2000]}", response=response
            )
        return response.json() if response.content else None

    def page(self, path: str) -> requests.Response:
        """Return the response to a GET request, of any status, e.g. page("/nightly/")."""
        return self._session.get(f"{self.url}{path}", timeout=WARM_SECONDS)

    def backfill(self, dag: str, first: str, last: str, conf: dict[str, Any], at_once: int = 1) -> None:
        """Run `airflow backfill create` for the days `first` to `last`, with `at_once` active runs.

        First wait for an earlier backfill: a DAG has one at a time, and the scheduler checks for its end every 30 s.
        """
        poll(lambda: all(b["completed_at"] for b in self._backfills(dag)), every=1)
        window = ["--from-date", first, "--to-date", f"{last}T23:59"]
        options = ["--max-active-runs", str(at_once), "--dag-run-conf", json.dumps(conf)]
        self.cli("backfill", "create", "--dag-id", dag, *window, *options)

    @property
    def password(self) -> str:
        """The admin's password, which Airflow generated at its first start."""
        path = self.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(path.read_text())["admin"])

    def _log_in(self) -> None:
        response = self._session.post(
            f"{self.url}/auth/token", json={"username": "admin", "password": self.password}, timeout=60
        )
        response.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def _warm(self) -> None:
        """Send the first requests as the admin, so that users do not wait for them. Ignore errors."""
        for path in FIRST_PATHS:
            with suppress(requests.RequestException):
                self.page(path)

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
    """Return a free port of this machine; `preferred` if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
