"""Beam engines for tests: worker pools on hosts of their own, Prism, and one that the environment names."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apache_beam
import pytest

from nightly.io.paths import ROOT, python_path
from nightly.io.polling import poll
from tests.support.namespaces import Host, hosts

ENGINES = ("hosts", "prism", "named")
NAMED = "NIGHTLY_TEST_BEAM_ARGS"  # Beam's options of a cluster, e.g. of Flink, whose workers see the same folders
POOL_PORT = 50000
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"


@dataclass
class Engine:
    """Beam's options, what the driver's command begins with, and what must be true afterwards."""

    args: list[str]
    prefix: Sequence[str] = ()
    check: Callable[[], object] = lambda: None


@contextmanager
def running(name: str, folder: Path) -> Iterator[Engine]:
    """Yield an engine, and stop it. Skips where a program that it needs is missing; its logs go to `folder`."""
    with ExitStack() as stack:
        yield _START[name](stack, folder)


def _processes(stack: ExitStack, folder: Path) -> Engine:
    return Engine(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])


def _hosts(stack: ExitStack, folder: Path) -> Engine:
    """Two hosts with a worker pool each, and one for the driver."""
    driver, *workers = stack.enter_context(hosts(3))
    logs = [stack.enter_context(worker_pool(folder, host)) for host in workers]
    addresses = ",".join(f"{host.address}:{POOL_PORT}" for host in workers)

    def check() -> None:
        for log in logs:
            assert "Starting worker" in log.read_text(), "a host did nothing"

    return Engine(["--environment_type=EXTERNAL", f"--environment_config={addresses}"], driver.prefix, check)


def _prism(stack: ExitStack, folder: Path) -> Engine:
    """Prism, built from its source, and a worker in another process."""
    prism = built_prism(folder)
    logs = [stack.enter_context(worker_pool(folder, None, port := free_port()))]

    def check() -> None:
        assert "Starting worker" in logs[0].read_text()

    options = ["--runner=PrismRunner", f"--prism_location={prism}"]
    return Engine([*options, "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"], (), check)


def _named(stack: ExitStack, folder: Path) -> Engine:
    if not (args := os.environ.get(NAMED)):
        pytest.skip(f"no cluster: {NAMED}='--runner=FlinkRunner --flink_master=…' names the options of one")
    return Engine(shlex.split(args))


_START = {"processes": _processes, "hosts": _hosts, "prism": _prism, "named": _named}


@contextmanager
def worker_pool(
    folder: Path,
    host: Host | None,
    port: int = POOL_PORT,
    hidden: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[Path]:
    """Run Beam's worker pool on `host`, or here; yield the path of its log.

    :param hidden: a folder that is empty on this host, whatever others have there
    """
    log = folder / f"pool-{host.name if host else port}.log"
    binaries = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin:/bin:/usr/sbin:/sbin"])
    own = {"PATH": binaries, "PYTHONPATH": python_path(ROOT), "HOME": str(folder)} | (environment or {})
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    if hidden:  # `ip netns exec` has mounts of its own
        command = ["sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(hidden), *command]
    with _serving([*(host.prefix if host else ()), *command], port, log, own):
        yield log


@contextmanager
def s3_server(folder: Path, host: Host, port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run an S3 server on `host`, with the bucket that the environment names."""
    moto = Path(sys.executable).with_name("moto_server")
    if not moto.exists():
        pytest.skip("moto is not installed: `make setup-dev`")
    bucket = environment["NIGHTLY_STATE"].split("/")[2]
    create = f"import boto3; boto3.client('s3').create_bucket(Bucket={bucket!r})"
    with _serving([*host.prefix, str(moto), "-H", host.address, "-p", str(port)], port, folder / "s3.log", os.environ):
        subprocess.run([*host.prefix, sys.executable, "-c", create], env=os.environ | environment, check=True)
        yield


@contextmanager
def _serving(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server until the end of the block, which begins when it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output, start_new_session=True)
    try:
        sockets = [Path(f"/proc/{process.pid}/net/{name}") for name in ("tcp", "tcp6")]  # of its own namespace
        listens = poll(
            lambda: any(f":{port:04X} 0000" in path.read_text() for path in sockets),
            until=lambda listens: listens or process.poll() is not None,
            every=0.2,
            seconds=300,
        )
        assert listens, log.read_text()[-2000:]
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def built_prism(folder: Path) -> Path:
    """Return the `prism` of the PATH, or build Beam's version. Skips without Go, or where Go cannot get its modules."""
    if there := shutil.which("prism"):
        return Path(there)
    if not (go := shutil.which("go")):
        pytest.skip("Prism is built by Go, which is missing")
    command = [go, "install", f"{PRISM}@v{apache_beam.__version__}"]
    done = subprocess.run(command, env=os.environ | {"GOBIN": str(folder)}, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Go cannot build Prism: {done.stderr.strip().splitlines()[-1]}")
    return folder / "prism"


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
