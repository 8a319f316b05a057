"""A real Airflow in its parts, a real model server and, if asked for, PostgreSQL, started again when they die.

Each part is what docker-compose.yaml starts as a service of its own, and is restarted as `restart: always` would.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import requests

from local.airflow import AirflowDidNotStart, LocalAirflow, free_port
from local.serving import LocalModelServer
from nightly.io.paths import ROOT, Paths
from nightly.io.polling import poll
from nightly.serving import address
from tests.chaos import processes
from tests.chaos.clock import Clock, NoClock
from tests.chaos.settings import Settings

DAG, MODEL = "taxi_retrain", "taxi"
TRIPS = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 600  # of all of it, on a starved machine
ASK_SECONDS = 300  # how long an answer of the API is waited for while its server is restarted
DISK = "2g"  # the size of the small disk: more than the product wants free, little enough to be filled in a moment


class Service:
    """One process that is started again when it ends; whoever is left of it ends first, as in a container."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.ended_at = 0.0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self.environment
            )
        self.ended_at = 0.0

    @property
    def processes(self) -> list[psutil.Process]:
        """Itself, if it lives, and all below it."""
        return processes.tree(self.process.pid) if self.process and self.process.poll() is None else []


class World(LocalAirflow):
    """Everything that a campaign runs nights in, under one folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.home.resolve()
        self.paths = Paths.from_environment({"NIGHTLY_VAR": str(self.folder / "var")})
        self.temporary = self.folder / "tmp"
        self.logs = self.folder / "logs"
        for folder in (self.paths.var, self.temporary, self.logs, self.folder / "airflow"):
            folder.mkdir(parents=True, exist_ok=True)
        self.has_small_disk = self._mount_small_disk()
        self.clock, self.no_clock = self._clock()
        self.database = self._postgresql() if settings.postgresql else None
        ports = {"port": free_port(), "rest_api_port": free_port()}
        self.grpc, self.rest = (f"127.0.0.1:{port}" for port in ports.values())
        super().__init__(self.folder / "airflow", self._environment())
        self.services: dict[str, Service] = {}
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._serving_flags = ports

    # --- its life

    def start(self) -> None:
        processes.adopt_orphans()
        if self.database is not None:
            self._add("postgresql", self.database.command, dict(os.environ))
            self.services["postgresql"].start()
            self.database.create_databases()
        self.cli("db", "migrate")
        for name in PARTS:
            clock = self.clock.environment if self.clock else {}
            self._add(name, [str(ROOT / "bin/airflow"), name], self.environment | clock)
        server = LocalModelServer.of_releases(self.paths, self.logs / "serving.log", **self._serving_flags)
        command = [str(self.paths.ml_python), "-m", "nightly_server"]
        command += [f"--{name}={value}" for name, value in server.flags.items()]
        self._add("model-server", command, self.environment | {"TF_CPP_MIN_LOG_LEVEL": "2"})
        known = address.ServerAddress(rest=self.rest, grpc=self.grpc, base_path=str(self.paths.serving))
        address.record(self.paths, known)
        for service in self.services.values():
            if service.process is None:
                service.start()
        self._supervisor.start()
        self.wait_until(self.healthy, START_SECONDS, "every part answers")
        self.wait_until(lambda: len(self.api("get", "dags")["dags"]) == 2, START_SECONDS, "the DAGs are there")
        for dag in (DAG, "rollback"):
            self.api("patch", f"dags/{dag}", json={"is_paused": False})

    def stop(self) -> None:
        """End every process, asking first; also those that others have left."""
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        processes.send(processes.descendants(), signal.SIGCONT)
        processes.end(processes.descendants(), 20)
        if self.database is not None:
            shutil.rmtree(self.database.folder, ignore_errors=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `condition` holds. Raises AirflowDidNotStart; an error of a request counts as not yet."""

        def holds() -> bool:
            with contextlib.suppress(requests.RequestException, KeyError, ValueError, OSError):
                return condition()
            return False

        if not poll(holds, every=0.5, seconds=seconds):
            raise AirflowDidNotStart(f"waited {seconds:.0f} s in vain until {what}; the logs are in {self.logs}")

    # --- its parts

    def healthy(self) -> bool:
        """Whether every part answers, and is alive by its own heartbeat."""
        if any(service.process is None or service.process.poll() is not None for service in self.services.values()):
            return False
        try:
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            requests.get(f"http://{self.rest}/v1/models/{MODEL}", timeout=5)
        except (requests.RequestException, ValueError):
            return False
        return all(part["status"] == "healthy" for part in health.values())

    def kill(self, name: str, alone: bool = False) -> list[psutil.Process]:
        """SIGKILL a service with all its processes, as a container; `alone`: the first process, the others live on."""
        struck = self.services[name].processes
        if name == "scheduler" and not alone:
            struck += self.adopted()
        return processes.send(struck[:1] if alone else reversed(struck), signal.SIGKILL)

    def adopted(self) -> list[psutil.Process]:
        """The processes whose parents have died, e.g. the warm host; in a container they end with the scheduler."""
        of_services = {process.pid for service in self.services.values() for process in service.processes}
        return [process for process in processes.descendants() if process.pid not in of_services]

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """As LocalAirflow.api; a server that is away is waited for. What changes something is asked once it is back."""
        deadline = time.monotonic() + ASK_SECONDS
        while True:
            try:
                return super().api(method, path, **arguments)
            except (requests.ConnectionError, requests.Timeout, requests.HTTPError) as error:
                answer = getattr(error, "response", None)
                final = answer is not None and answer.status_code < 500
                if final or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    # --- its nights

    def trigger(self, dag: str = DAG, **conf: Any) -> str:
        """A manual run without a date; a request that was cut off is not sent twice."""
        run_id = f"chaos-{secrets.token_hex(4)}"
        body = {"logical_date": None, "dag_run_id": run_id, "conf": conf}
        try:
            self.api("post", f"dags/{dag}/dagRuns", json=body)
        except requests.HTTPError as error:
            if error.response.status_code != 409:  # the one before was answered too late
                raise
        return run_id

    def state(self, dag: str, run_id: str) -> str:
        return str(self.api("get", f"dags/{dag}/dagRuns/{run_id}")["state"])

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances"
        return list(self.api("get", path, params={"limit": 100})["task_instances"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """The last hundred, the newest first."""
        return list(self.api("get", f"dags/{dag}/dagRuns", params={"limit": 100, "order_by": "-run_after"})["dag_runs"])

    def releases(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """bin/releases, as a person runs it."""
        return subprocess.run(
            [ROOT / "bin/releases", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def sql(self, name: str, command: str) -> list[tuple[Any, ...]]:
        """The rows that a command gives in the database `airflow` or `mlmd`."""
        if self.database is not None:
            return self.database.run(name, command)
        with contextlib.closing(sqlite3.connect(self.sqlite(name), timeout=60)) as connection:
            return connection.execute(command).fetchall()

    def sqlite(self, name: str) -> Path:
        return self.home / "airflow.db" if name == "airflow" else self.paths.metadata / f"{MODEL}.sqlite"

    # --- inside

    def _environment(self) -> dict[str, str]:
        source = self.folder / "source/trips.csv"
        source.parent.mkdir(exist_ok=True)
        packages = (self.paths.ml_python.parent.parent / "lib").glob("python3*/site-packages")
        shutil.copy(next(packages) / TRIPS, source)
        settings = self.settings
        databases = {}
        if self.database is not None:
            url = self.database.url("airflow").replace("postgresql:", "postgresql+psycopg2:", 1)
            databases["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url
            databases["NIGHTLY_METADATA_DB"] = self.database.url("mlmd")
        return databases | {
            "NIGHTLY_VAR": str(self.paths.var),
            "NIGHTLY_RUN": str(self.folder / "run"),
            "NIGHTLY_HOST_IDLE_SECONDS": "120",
            "NIGHTLY_CODE_VERSION": "chaos",
            "NIGHTLY_SERVING_REST": self.rest,
            "NIGHTLY_SERVING_GRPC": self.grpc,
            "TMPDIR": str(self.temporary),
            "CHAOS_STEP_SECONDS": str(settings.step),
            "CHAOS_RETRY_SECONDS": str(settings.retry),
            "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(source)}}),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(24),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(24),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs / "tasks"),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            # What tells one fault's effect from the next, in a campaign's time instead of a night's.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{settings.heartbeat:.0f}",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
        }

    def _clock(self) -> tuple[Clock | None, str]:
        """A clock that can jump, or why there is none."""
        if self.settings.no_clock:
            return None, "--no-clock"
        try:
            return Clock(self.folder / "clock"), ""
        except NoClock as error:
            return None, str(error)

    def _postgresql(self) -> Any:
        """A cluster that is not started yet. Its folder is where PostgreSQL's own user may go."""
        from tests.support.postgresql import Database  # only who asks for it needs its libraries

        return Database(Path(tempfile.mkdtemp(prefix="nightly-chaos-", dir="/tmp")), secrets.token_hex(24))

    def _mount_small_disk(self) -> bool:
        """Make var/ a disk that can be filled; only in a mount namespace of its own, which ends with this process."""
        if "CHAOS_OWN_MOUNTS" not in os.environ:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.paths.var)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def _add(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.services[name] = Service(name, command, environment, self.logs / f"{name}.log")

    def _supervise(self) -> None:
        """Start again what has ended, after a while."""
        while not self._over.wait(0.2):
            own = [service.process.pid for service in self.services.values() if service.process]
            for service in self.services.values():
                if service.process is None or service.process.poll() is None:
                    continue
                service.ended_at = service.ended_at or time.monotonic()
                if time.monotonic() - service.ended_at > self.settings.restart:
                    service.start()
            with contextlib.suppress(psutil.Error):
                processes.reap_orphans(own)
