"""Airflow with Celery over hosts that share no disk, and what they share: PostgreSQL, Redis, a bucket, a model server.

The machine itself is the middle: scheduler, DAG processor, API server, triggerer and the model server. Each worker is
on a host of its own (tests/hosts/host.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from celery import Celery

from local.airflow import AirflowDidNotStart, LocalAirflow
from local.child import Child
from local.serving import LocalModelServer
from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.verdict import Verdict
from nightly_airflow.pool import POOL
from tests.hosts.environment import environment
from tests.hosts.host import Host
from tests.hosts.project import MODELS, copy_for_hosts
from tests.hosts.services import Bucket, running_redis
from tests.support.data import TAXI
from tests.support.postgresql import running_database

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
WORKERS = ("host-a", "host-b")
QUEUE = "default"  # Airflow's
SLOTS = 2  # tasks at a time on one host
START_SECONDS = 900
NIGHT_SECONDS = 1500
INHERITED = ("AIRFLOW", "NIGHTLY_", "AWS_", "PYTHONPATH")  # begin what would lead a process elsewhere
ENDED = ("success", "failed")


class Cluster(LocalAirflow):
    """All of it, in one folder below /tmp; it is up inside `running`."""

    def __init__(self, folder: Path, bucket: Bucket, database: Any, broker: str) -> None:
        self.folder = folder
        self.broker = broker
        self.bucket = bucket
        self.database = database
        self.project = copy_for_hosts(folder / "project", TAXI)
        self.var = folder / "var"
        self.var.mkdir()
        self.paths = Paths.from_environment({"NIGHTLY_VAR": str(self.var)})
        self.logs = folder / "logs"
        self.volume = folder / "volume"  # the model server's
        own = environment(self.folder, self.project, self.bucket, self.database, broker)
        super().__init__(self.var / "airflow", own)
        for name in list(self.environment):
            if name.startswith(INHERITED) and name not in own and self.environment[name] == os.environ.get(name):
                del self.environment[name]
        self.server = LocalModelServer(
            self.paths,
            self.logs / "serving.log",
            model_config_file=self.volume / "models.config",
            allow_version_labels_for_unavailable_models="true",
            max_num_load_retries=0,
            enable_batching="true",
            batching_parameters_file=self.volume / "batching.config",
            monitoring_config_file=self.volume / "monitoring.config",
        )
        self.hosts: dict[str, Host] = {}
        self._children: dict[str, Child] = {}

    # --- its life

    def start(self) -> None:
        pull = [str(self.project / "bin/pull"), "--from", self.bucket.state, "--into", str(self.volume), "--watch", "1"]
        self._start("pull", *pull)
        if not self._children["pull"].wait_for((self.volume / "models.config").exists, START_SECONDS):
            raise AirflowDidNotStart(f"bin/pull wrote no models.config: {self._children['pull'].last_lines(20)}")
        self.server.start()
        self.environment |= self.server.environment
        self.cli("db", "migrate")
        for name in PARTS:
            self._start(name, str(self.project / "bin/airflow"), name)
        for name in WORKERS:
            command = [str(self.project / "bin/airflow"), "celery", "worker", "--celery-hostname", name]
            # The log server would need an address of each host's own.
            command += ["--concurrency", str(SLOTS), "--skip-serve-logs", "--without-gossip"]
            code = [self.project, (self.project / ".venv").resolve()]
            self.hosts[name] = Host(name, self.folder / "hosts" / name, self.var, code, command, self.environment)
            self.hosts[name].start()
        self.wait_until(self.healthy, START_SECONDS, "every part answers")
        dags = {f"{model}_retrain" for model in MODELS}
        self.wait_until(lambda: dags <= self._dags(), START_SECONDS, "the DAGs are there")
        for dag in dags:
            self.api("patch", f"dags/{dag}", json={"is_paused": False})

    def stop(self) -> None:
        for host in self.hosts.values():
            host.thaw()
            host.kill()
        for child in reversed(self._children.values()):
            child.stop()
        self.server.stop()

    def healthy(self) -> bool:
        """Whether every part of the middle is alive by its own heartbeat, and every host takes tasks."""
        for name, child in self._children.items():
            if not child.running:
                raise AirflowDidNotStart(f"{name} has ended: {child.last_lines(40)}")
        health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        return all(part["status"] == "healthy" for part in health.values()) and all(map(self.takes_tasks, WORKERS))

    def takes_tasks(self, name: str) -> bool:
        """Whether the worker of a host is connected to the broker."""
        host = self.hosts[name]
        if not host.up:
            raise AirflowDidNotStart(f"{name} has ended: {host.last_lines()}")
        return f"celery@{name} ready" in host.last_lines(4000) or f"{name} ready" in host.last_lines(4000)

    def wait_until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Wait until `condition` holds. Raises TimeoutError; an error of a request counts as not yet."""

        def holds() -> bool:
            with contextlib.suppress(requests.RequestException, KeyError, ValueError, FileNotFoundError):
                return bool(condition())
            return False

        if not poll(holds, every=0.5, seconds=seconds):
            raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}; the logs are in {self.folder}")

    # --- its hosts

    def other(self, name: str) -> Host:
        """Return the host that is not `name`."""
        return self.hosts[next(worker for worker in WORKERS if worker != name)]

    def bring_up(self) -> None:
        """Start each host that is down, and wait until all take tasks."""
        for host in self.hosts.values():
            host.thaw()
            if not host.up:
                host.log.unlink(missing_ok=True)
                host.start()
            self._take_tasks(host, True)
        self.wait_until(lambda: all(map(self.takes_tasks, WORKERS)), START_SECONDS, "both hosts take tasks")

    @contextlib.contextmanager
    def without(self, host: Host, *, emptied: bool = False) -> Iterator[None]:
        """Have a host down, and afterwards up again; `emptied`: with an empty disk."""
        host.kill()
        try:
            yield
        finally:
            if emptied:
                host.empty()
            self.bring_up()

    @contextlib.contextmanager
    def resting(self, host: Host) -> Iterator[None]:
        """Let a host begin no task meanwhile; what runs there goes on."""
        self._take_tasks(host, False)
        try:
            yield
        finally:
            self._take_tasks(host, True)

    @contextlib.contextmanager
    def between_tasks(self) -> Iterator[None]:
        """Begin no ML step of any night, and wait until no task runs."""
        self._resize_pool(0)
        try:
            query = "SELECT 1 FROM task_instance WHERE state IN ('queued', 'running')"
            self.wait_until(lambda: not self.database.run("airflow", query), NIGHT_SECONDS, "no task runs")
            yield
        finally:
            self._resize_pool(SLOTS)

    def empty_caches(self) -> None:
        """Delete what the hosts keep of the state, as an administrator who needs space; only while no task runs."""
        for host in self.hosts.values():
            for path in (host.disk / "var").iterdir():
                if path.name not in ("airflow", "run"):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _resize_pool(self, slots: int) -> None:
        body = {"name": POOL, "slots": slots, "include_deferred": False}
        self.api("patch", f"pools/{POOL}", params={"update_mask": "slots"}, json=body)

    def _take_tasks(self, host: Host, does: bool) -> None:
        control = Celery(broker=self.broker).control
        change = control.add_consumer if does else control.cancel_consumer
        change(QUEUE, destination=[f"celery@{host.name}"], reply=True, timeout=10)

    # --- its nights

    def trigger(self, model: str, as_of: str, **conf: Any) -> str:
        """Start a night that may release; return its run's id."""
        run_id = f"{model}-{as_of}-{secrets.token_hex(2)}"
        body = {"logical_date": None, "dag_run_id": run_id, "conf": {"as_of": as_of, "release": "yes", **conf}}
        self.api("post", f"dags/{model}_retrain/dagRuns", json=body)
        return run_id

    def wait_for(self, model: str, run_id: str, seconds: float = NIGHT_SECONDS) -> str:
        """Return a run's state at its end. Raises TimeoutError with its tasks' states."""
        path = f"dags/{model}_retrain/dagRuns/{run_id}"
        state = poll(lambda: self.api("get", path)["state"], until=ENDED.__contains__, seconds=seconds, every=1)
        if state not in ENDED:
            tasks = {task["task_id"]: (task["state"], task["hostname"]) for task in self.tasks(model, run_id)}
            raise TimeoutError(f"{run_id} did not end within {seconds:.0f} s: {tasks}; the logs are in {self.folder}")
        return str(state)

    def tasks(self, model: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run, in their last tries."""
        path = f"dags/{model}_retrain/dagRuns/{run_id}/taskInstances"
        return list(self.api("get", path, params={"limit": 100})["task_instances"])

    def task(self, model: str, run_id: str, task_id: str) -> dict[str, Any]:
        return dict(self.api("get", f"dags/{model}_retrain/dagRuns/{run_id}/taskInstances/{task_id}"))

    def tries(self, model: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """All tries of a task, the first one first."""
        path = f"dags/{model}_retrain/dagRuns/{run_id}/taskInstances/{task_id}/tries"
        return sorted(self.api("get", path)["task_instances"], key=lambda attempt: attempt["try_number"])

    def catch(self, model: str, run_id: str, task_id: str) -> Host:
        """Wait until a task runs, and return its host. Raises TimeoutError."""
        query = f"SELECT hostname FROM task_instance WHERE run_id = '{run_id}' AND task_id = '{task_id}'"
        query += " AND state = 'running' AND hostname <> ''"
        ended = f"SELECT 1 FROM dag_run WHERE run_id = '{run_id}' AND state IN ('success', 'failed')"
        running = poll(
            lambda: self.database.run("airflow", query) or (self.database.run("airflow", ended) and [("",)]),
            seconds=NIGHT_SECONDS,
            every=0.05,
        )
        if not running or not running[0][0]:
            raise TimeoutError(f"{task_id} was never seen to run:\n{self.story(model, run_id)}")
        return self.hosts[running[0][0]]

    def runs(self, model: str) -> list[dict[str, Any]]:
        """The last hundred runs, the newest first."""
        query = {"limit": 100, "order_by": "-run_after"}
        return list(self.api("get", f"dags/{model}_retrain/dagRuns", params=query)["dag_runs"])

    def verdict(self, model: str, run_id: str) -> Verdict | None:
        """The verdict in the bucket."""
        record = self.bucket.record("nights", model, self.paths.night(model, run_id).name, "verdict.json")
        return None if record is None else Verdict.model_validate(record)

    def log_of(self, model: str, run_id: str, task_id: str) -> str:
        """What the tries of a task logged, from the disks of the hosts that ran it."""
        lines = []
        for host in self.hosts.values():
            folder = host.disk / "var/airflow/logs" / f"dag_id={model}_retrain" / f"run_id={run_id}"
            for log in sorted(folder.glob(f"task_id={task_id}/*.log")):
                lines.append(f"{host.name}, {log.name}:")
                lines += [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
        return "\n".join(lines)

    def story(self, model: str, run_id: str) -> str:
        """What became of a run, for a failed assertion."""
        verdict = self.verdict(model, run_id)
        lines = [f"{run_id}: {verdict and (verdict.outcome, verdict.summary)}"]
        for task in sorted(self.tasks(model, run_id), key=lambda task: task["start_date"] or ""):
            lines.append(f"  {task['task_id']:<18} {task['state']} on {task['hostname']}, try {task['try_number']}")
            if task["state"] in ("failed", "up_for_retry"):
                lines.append(self.log_of(model, run_id, task["task_id"])[-2000:])
        return "\n".join(lines)

    def command(self, *words: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run one of the project's commands on the middle, e.g. command("bin/state", "check")."""
        return subprocess.run(
            [self.project / words[0], *words[1:]],
            env=self.environment,
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    # --- inside

    def _start(self, name: str, *command: str) -> None:
        self._children[name] = Child(list(command), self.logs / f"{name}.log", self.environment)

    def _dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self.api("get", "dags", params={"limit": 100})["dags"]}


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start everything in a new folder of /tmp; at the end stop it, and delete the folder unless HOSTS_KEEP is set."""
    folder = Path(tempfile.mkdtemp(prefix="nightly-hosts-", dir="/tmp"))
    folder.chmod(0o755)
    bucket = Bucket()
    try:
        with running_database("password") as database, running_redis(folder) as broker:
            cluster = Cluster(folder, bucket, database, broker)
            with cluster.running():
                yield cluster
    finally:
        bucket.stop()
        if not os.environ.get("HOSTS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
