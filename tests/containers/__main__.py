"""Run the container files: python3 -m tests.containers [--bucket]  (`make test-containers`)

Builds the image, starts docker-compose.yaml, and releases a night of the taxi model while the scheduler and PostgreSQL
are restarted; then takes everything down. With --bucket it adds docker-compose.bucket.yaml, and kills the worker that
trains instead of restarting the scheduler.

It uses the Docker engine that is there. Where there is none it unpacks one from Debian's packages, for which it must be
root on Debian. A base image that cannot be pulled is replaced by a stand-in made of Debian's packages (`stand-ins/`).
Needs the standard library only, 25 GB of disk and half an hour.

NIGHTLY_TRIAL names the folder of engine and stand-ins; it is kept for the next trial.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = Path(os.environ.get("NIGHTLY_TRIAL", "/var/tmp/nightly-trial"))
DAG, RUN, AS_OF = "taxi_retrain", "trial", "2014-02-03T09:00:00Z"
GIGABYTES = 25
START_SECONDS, NIGHT_SECONDS = 1800, 3600  # on a machine that does other things, too
# For each stand-in: Debian's release and the packages of its file system, or None where it is made of our own image.
WITH_PYTHON = ("debian-12", "bookworm", "python3,python3-venv,ca-certificates,curl,dumb-init,netbase")
FILE_SYSTEMS = {
    "airflow": WITH_PYTHON,
    "minio": WITH_PYTHON,
    "postgres": ("debian-13", "trixie", "postgresql-17"),
    "redis": ("debian-12-redis", "bookworm", "redis-server"),
}


class TrialFailed(Exception):
    """The trial cannot run here, or something in it went wrong; the message says what."""


class Docker:
    """The docker command: this machine's, or that of an engine of our own."""

    def __init__(self) -> None:
        self.own = not _succeeds("docker", "version")
        self.command = [str(HERE / "engine"), str(FOLDER), "docker"] if self.own else ["docker"]

    def __enter__(self) -> Docker:
        if self.own:
            _check_debian("there is no Docker engine")
            print(f"no Docker engine here: unpacking and starting one in {FOLDER}", flush=True)
            _run(HERE / "engine", FOLDER, "start")
        elif not _succeeds("docker", "compose", "version"):
            raise TrialFailed("the docker command has no Compose: install Docker's Compose plugin, 2.23.1 or newer")
        FOLDER.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.own:
            _run(HERE / "engine", FOLDER, "stop")

    def __call__(self, *arguments: str | Path) -> str:
        """Run `docker ARGUMENTS` in the project's folder; returns what it printed. Raises TrialFailed."""
        return _run(*self.command, *arguments)

    def base(self, image: str, name: str) -> str:
        """Return `image` if it is there or can be pulled, else the name of a stand-in for it."""
        if _succeeds(*self.command, "image", "inspect", image) or _succeeds(*self.command, "pull", "--quiet", image):
            return image
        stand_in = f"nightly-trial/{name}"
        print(f"{image} cannot be pulled: making a stand-in", flush=True)
        if name in FILE_SYSTEMS:
            _check_debian(f"{image} cannot be pulled")
        context = FOLDER / "stand-ins" / name
        shutil.copytree(HERE / "stand-ins" / name, context, dirs_exist_ok=True)
        if name in FILE_SYSTEMS:
            self._import_file_system(*FILE_SYSTEMS[name])
        if FILE_SYSTEMS.get(name) == WITH_PYTHON:
            shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", context / "ca-certificates.crt")
            (context / "pip.conf").write_text(_pip_settings())
        self("build", "--quiet", "--tag", stand_in, context)
        return stand_in

    def _import_file_system(self, name: str, release: str, packages: str) -> None:
        image, file = f"nightly-trial/{name}", FOLDER / f"{name}.tar"
        if not _succeeds(*self.command, "image", "inspect", image):
            _run(HERE / "root-file-system", release, packages, file)
            self("import", file, image)
            file.unlink()


class Compose:
    """The project's services, each trial with new secrets and free ports."""

    def __init__(self, docker: Docker, images: dict[str, str], *, bucket: bool) -> None:
        self.docker = docker
        files = [ROOT / "docker-compose.yaml", HERE / "compose.yaml"]
        files += [ROOT / "docker-compose.bucket.yaml", HERE / "compose.bucket.yaml"] if bucket else []
        self.files = [word for file in files for word in ("--file", str(file))]
        self.password = secrets.token_hex(12)
        ports = dict(zip(("AIRFLOW_PORT", "SERVING_GRPC_PORT", "SERVING_REST_PORT"), _free_ports(3), strict=True))
        settings = {
            "POSTGRES_PASSWORD": secrets.token_hex(12),
            "AIRFLOW_ADMIN_PASSWORD": self.password,
            "AIRFLOW_FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW_JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW_SECRET_KEY": secrets.token_hex(32),
            "BUCKET_PASSWORD": secrets.token_hex(12),
            "REDIS_PASSWORD": secrets.token_hex(12),
            "CODE_VERSION": "trial",
            **{key: str(port) for key, port in ports.items()},
            **{f"TRIAL_{name.upper()}": image for name, image in images.items()},
        }
        self.settings = FOLDER / "trial.env"
        self.settings.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.settings.chmod(0o600)
        self.airflow = f"http://127.0.0.1:{ports['AIRFLOW_PORT']}"
        self.serving = f"http://127.0.0.1:{ports['SERVING_REST_PORT']}"
        self._token = ""

    def __call__(self, *arguments: str) -> str:
        """Run `docker compose ARGUMENTS`; returns what it printed. Raises TrialFailed."""
        return self.docker("compose", "--env-file", self.settings, "--progress", "plain", *self.files, *arguments)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow's REST API; returns the decoded answer, or None while it does not answer."""
        try:
            if not self._token:
                log_in = {"username": "admin", "password": self.password}
                self._token = _request("POST", f"{self.airflow}/auth/token", log_in)["access_token"]
            headers = {"Authorization": f"Bearer {self._token}"}
            return _request(method, f"{self.airflow}/api/v2/{path}", body, headers)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise TrialFailed(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None
            return None
        except OSError:  # PostgreSQL or the API server is on its way
            return None

    def tasks(self, field: str = "state") -> dict[str, str]:
        """The state of each task of the night that has one, or another field of Airflow's API."""
        answer = self.api("GET", f"dags/{DAG}/dagRuns/{RUN}/taskInstances?limit=100") or {"task_instances": []}
        return {task["task_id"]: task[field] for task in answer["task_instances"] if task[field]}

    def unhealthy(self) -> list[str]:
        """The services whose check does not pass, as name and state."""
        listed = [json.loads(line) for line in self("ps", "--format", "json").splitlines()]
        return [f"{one['Service']} is {one['Health'] or one['State']}" for one in listed if one["Health"] != "healthy"]

    def memory(self) -> str:
        """What each container takes at this moment."""
        names = self("ps", "--format", "{{.Name}}").split()
        lines = self.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names).splitlines()
        short = [line.removeprefix("nightly-trial-").split(" / ")[0].replace("-1 ", " ") for line in lines]
        return ", ".join(sorted(short))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.containers", description="Run the container files.")
    parser.add_argument("--bucket", action="store_true", help="with docker-compose.bucket.yaml, too")
    bucket = parser.parse_args().bucket
    measured: dict[str, str] = {}
    try:
        with Docker() as docker:
            trial(docker, measured, bucket=bucket)
    except TrialFailed as error:
        print(f"\nthe trial failed: {error}", file=sys.stderr)
        return 1
    print("\nthe trial passed")
    for name, value in measured.items():
        print(f"  {name:<28} {value}")
    print(f"{FOLDER} is kept for the next trial; it can be removed")
    return 0


def trial(docker: Docker, measured: dict[str, str], *, bucket: bool) -> None:
    """Build, start, run the night, disturb services in it, and take everything down; raises TrialFailed."""
    version = re.search(r"serving:\$\{TF_SERVING_VERSION:-([\d.]+)", (ROOT / "docker-compose.yaml").read_text())[1]
    base = re.search(r"^ARG BASE=(\S+)", (ROOT / "Dockerfile").read_text(), re.M)[1]
    images = {"airflow": docker.base(base, "airflow"), "postgres": docker.base("postgres:17", "postgres")}
    if bucket:
        text = (ROOT / "docker-compose.bucket.yaml").read_text()
        images |= {
            name: docker.base(re.search(rf"image: (\S*{name}:\S+)", text)[1], name) for name in ("minio", "redis")
        }
    compose = Compose(docker, images | {"serving": "made-after-the-build"}, bucket=bucket)
    with _Clock(measured, "build"):
        compose("build", "init")
    size = int(docker("image", "inspect", "--format", "{{.Size}}", "nightly-trial/nightly-retrain"))
    measured["image"] = f"{size / 1e9:.2f} GB, on a base of {_size(docker, images['airflow'])}"
    images["serving"] = docker.base(f"tensorflow/serving:{version}", "serving")
    compose = Compose(docker, images, bucket=bucket)
    measured["base images"] = ", ".join(images.values())
    try:
        with _Clock(measured, "up, until all are healthy"):
            compose("up", "--detach", "--no-build")
            _wait(START_SECONDS, "every service is healthy", lambda: not compose.unhealthy(), compose.unhealthy)
        measured["memory, idle"] = compose.memory()
        first = ("trainer", kill_worker) if bucket else ("trainer", restart("scheduler"))
        with _Clock(measured, "night, disturbed twice"):
            night(compose, [first, ("evaluator", restart("postgres"))])
        measured["memory, after the night"] = compose.memory()
        measured["hosts of the tasks"] = ", ".join(sorted(set(compose.tasks("hostname").values())))
        compose("up", "--detach", "--no-build")  # a killed worker begins again
        state = _request("GET", f"{compose.serving}/v1/models/taxi/labels/stable")["model_version_status"][0]
        if state["state"] != "AVAILABLE":
            raise TrialFailed(f"the model server has `stable` as {state}")
        _wait(START_SECONDS, "every service is healthy again", lambda: not compose.unhealthy(), compose.unhealthy)
    except TrialFailed:
        print(compose("logs", "--no-color", "--tail", "60"), file=sys.stderr)
        raise
    finally:
        compose("down", "--volumes", "--timeout", "60")


def restart(service: str) -> Callable[[Compose, str], None]:
    """Return a disturbance of a task: restart that service."""

    def act(compose: Compose, task: str) -> None:
        print(f"{task} runs: restarting {service}", flush=True)
        compose("restart", service)

    return act


def kill_worker(compose: Compose, task: str) -> None:
    """Kill the container that runs the task. Airflow lets another worker run it again once its heartbeat is missed."""
    container = compose.tasks("hostname")[task]
    print(f"{task} runs: killing its worker, {container}", flush=True)
    compose.docker("kill", container)


def night(compose: Compose, disturbances: list[tuple[str, Callable[[Compose, str], None]]]) -> None:
    """Run one night of the taxi model to RELEASED; while each named task runs, it is disturbed."""
    _wait(START_SECONDS, f"{DAG} is known", lambda: compose.api("GET", f"dags?dag_id_pattern={DAG}")["dags"])
    compose.api("PATCH", f"dags/{DAG}", {"is_paused": False})
    conf = {"as_of": AS_OF, "release": "yes"}
    compose.api("POST", f"dags/{DAG}/dagRuns", {"dag_run_id": RUN, "logical_date": None, "conf": conf})
    for task, disturb in disturbances:
        _wait(NIGHT_SECONDS, f"{task} runs", lambda task=task: _runs(compose, task), compose.tasks)
        disturb(compose, task)
    _wait(
        NIGHT_SECONDS, "the night ends", lambda: _run_of(compose).get("state") in ("success", "failed"), compose.tasks
    )
    run = _run_of(compose)
    print(f"{run['state']}: {run['note']}", flush=True)
    if run["state"] != "success" or "RELEASED" not in (run["note"] or ""):
        raise TrialFailed(f"the night ended as {run['state']}: {run['note']}; tasks: {compose.tasks()}")


def _run_of(compose: Compose) -> dict[str, Any]:
    return compose.api("GET", f"dags/{DAG}/dagRuns/{RUN}") or {}


def _runs(compose: Compose, task: str) -> bool:
    states = compose.tasks()
    if "failed" in states.values():
        raise TrialFailed(f"before {task} ran, a task failed: {states}")
    return states.get(task) == "running"


class _Clock:
    """Print what begins, and write into `measured` how long it took."""

    def __init__(self, measured: dict[str, str], name: str) -> None:
        self.measured, self.name = measured, name

    def __enter__(self) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.name} …", flush=True)
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.measured[self.name] = f"{time.monotonic() - self.began:.0f} s"


def _wait(seconds: float, what: str, condition: Callable[[], Any], state: Callable[[], Any] | None = None) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TrialFailed(f"after {seconds:.0f} s it is not so that {what}: {state() if state else ''}")
        time.sleep(1)


def _check_debian(lack: str) -> None:
    """Refuse a machine on which what is lacking cannot be made of Debian's packages; raises TrialFailed."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("apt-get"):
        raise TrialFailed(f"{lack}, and it can be made of Debian's packages on Debian on x86_64 only")
    if platform.freedesktop_os_release().get("ID") != "debian":
        raise TrialFailed(f"{lack}, and it can be made of Debian's packages on Debian only")
    if os.geteuid() != 0:
        raise TrialFailed(f"{lack}, and only root can make it of Debian's packages: sudo make test-containers")
    FOLDER.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(FOLDER).free / 1e9
    if free < GIGABYTES:
        raise TrialFailed(f"{FOLDER} has {free:.0f} GB free of {GIGABYTES}: name another folder in NIGHTLY_TRIAL")


def _pip_settings() -> str:
    """pip.conf with this machine's package index and proxy."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^\S+\.(index-url|proxy)='(.*)'$", listed, re.M))
    found["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items())


def _size(docker: Docker, image: str) -> str:
    return f"{int(docker('image', 'inspect', '--format', '{{.Size}}', image)) / 1e9:.2f} GB"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _request(method: str, url: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    with opener.open(request, timeout=120) as answer:
        return json.load(answer)


def _succeeds(*command: str | Path) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, cwd=ROOT, capture_output=True).returncode


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    if done.returncode:
        output = (done.stdout + done.stderr)[-6000:]
        raise TrialFailed(f"`{' '.join(map(str, command))}` ended with status {done.returncode}:\n{output}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
