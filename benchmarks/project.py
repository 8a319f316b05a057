"""Nights as users run them, with an Airflow, a model server and a warm host for this benchmark only."""

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.airflow import LocalAirflow
from local.serving import LocalModelServer
from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.verdict import Verdict

DAG = "complaints_retrain"
NIGHT_SECONDS = 3600
ENDED = ("success", "failed")
POLL_SECONDS = 0.1


class Project:
    """A running Airflow, whose nights read complaints from one file."""

    def __init__(self, airflow: LocalAirflow, paths: Paths, source: Path) -> None:
        self.airflow, self.paths, self.source = airflow, paths, source

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a manual run, as the UI's button does; return its id."""
        run = self.airflow.api("post", f"dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        return run["dag_run_id"]

    def wait(self, dag: str, run_id: str) -> dict[str, Any]:
        """Wait for the end of the run and return it. Raise TimeoutError."""
        run = poll(
            lambda: self.airflow.api("get", f"dags/{dag}/dagRuns/{run_id}"),
            until=lambda run: run["state"] in ENDED,
            every=0.5,
            seconds=NIGHT_SECONDS,
        )
        if run["state"] not in ENDED:
            raise TimeoutError(f"{run_id} of {dag} did not end; Airflow's log is {self.airflow.log}")
        return run

    def night(self, dag: str, **conf: Any) -> dict[str, Any]:
        """Run a night; return its seconds from the trigger to the end, outcome, tasks, and largest process."""
        began = dt.datetime.now(dt.UTC)
        with Peak(self.paths) as peak:
            run = self.wait(dag, self.trigger(dag, **conf))
        ended = dt.datetime.fromisoformat(run["end_date"])
        return {"seconds": (ended - began).total_seconds(), "peak_mb": peak.mb, **self.story(dag, run["dag_run_id"])}

    def story(self, dag: str, run_id: str) -> dict[str, Any]:
        """Return a night's outcome and its tasks' seconds."""
        verdict = Verdict.load(self.paths.night(dag.removesuffix("_retrain"), run_id) / "verdict.json")
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances"
        tasks = self.airflow.api("get", path, params={"limit": 100})["task_instances"]
        seconds = {task["task_id"]: round(task["duration"] or 0, 2) for task in tasks}
        return {"outcome": verdict.outcome.value, "summary": verdict.summary, "rows": verdict.rows, "tasks": seconds}


@contextlib.contextmanager
def project(folder: Path) -> Iterator[Project]:
    """Start everything with its state in `folder`; end every process after the block, including the warm host."""
    var, source = folder / "var", folder / "source" / "complaints.csv"
    source.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "NIGHTLY_VAR": str(var),
        "AIRFLOW_CONN_COMPLAINTS_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(source)}}),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # only triggered nights
    }
    paths = Paths.from_environment(environment)
    with (
        LocalModelServer.of_releases(paths, var / "serving.log").running() as server,
        LocalAirflow(var / "airflow", environment | server.environment).running() as airflow,
    ):
        try:
            for dag in airflow.api("get", "dags")["dags"]:
                airflow.api("patch", f"dags/{dag['dag_id']}", json={"is_paused": False})
            yield Project(airflow, paths, source)
        finally:
            end_hosts(paths)


def end_hosts(paths: Paths) -> None:
    """End the warm hosts that were started under `paths`, and wait until they have ended."""
    for path in (paths.run / "host").glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY)  # a socket's path is at most 107 characters
            client.connect(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
            pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            process = os.pidfd_open(pid)
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                signal.pidfd_send_signal(process, 0)
                os.waitid(os.P_PIDFD, process, os.WEXITED)
            os.close(process)


class Peak:
    """The largest resident set that any process of a project reaches, by the operating system (VmHWM)."""

    def __init__(self, paths: Paths) -> None:
        self._mark = f"NIGHTLY_VAR={paths.var}".encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._ours: dict[str, bool] = {}
        self.mb = 0.0

    def __enter__(self) -> "Peak":
        # Reset the peak of running processes for each night.
        for pid in self._processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            for pid in self._processes():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    if "VmHWM:" in status:
                        self.mb = max(self.mb, int(status.partition("VmHWM:")[2].split()[0]) / 1024)

    def _processes(self) -> list[str]:
        pids = [path.name for path in Path("/proc").glob("[0-9]*")]
        self._ours = {pid: self._ours.get(pid, False) or self._is_ours(pid) for pid in pids}
        return [pid for pid, ours in self._ours.items() if ours]

    def _is_ours(self, pid: str) -> bool:
        with contextlib.suppress(OSError):
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False
