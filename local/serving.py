"""The embedded model server as a process on this machine, for `make up`, the demo and tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.contracts.places import ROOT, Places
from include.serving import live

START_SECONDS = 120
READY = re.compile(r"ready grpc=(\S+) rest=(\S+)")


class ModelServerDidNotStart(Exception):
    """The message holds the end of the server's own log."""


class ModelServer:
    """`python -m include.serving.server` with the given flags, on free ports unless they say otherwise."""

    def __init__(self, places: Places, log: Path, **flags: object) -> None:
        self.places = places
        self.log = log
        self.flags = {"port": 0, "rest_api_port": 0, **flags}
        self.grpc = self.rest = ""  # host:port, once it is running
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of_releases(cls, places: Places, log: Path, **flags: object) -> ModelServer:
        """A server of everything that is released into the serving volume, with the project's own settings."""
        settings = ROOT / "include/serving"
        return cls(
            places,
            log,
            model_config_file=live.write(places, str(places.serving)),
            allow_version_labels_for_unavailable_models="true",
            enable_batching="true",
            batching_parameters_file=settings / "batching.config",
            monitoring_config_file=settings / "monitoring.config",
            **flags,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What tells a release where this server is."""
        return {"NIGHTLY_SERVING_REST": self.rest, "NIGHTLY_SERVING_GRPC": self.grpc}

    @property
    def url(self) -> str:
        return f"http://{self.rest}"

    @contextmanager
    def running(self) -> Iterator[ModelServer]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start it and wait for the line that tells its ports."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        command = [str(self.places.ml_python), "-m", "include.serving.server"]
        command += [f"--{name}={value}" for name, value in self.flags.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := READY.search(self.log.read_text(errors="replace")):
                self.grpc, self.rest = found.groups()
                return
            time.sleep(0.2)
        self.stop()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise ModelServerDidNotStart(f"the model server did not start; {self.log} ends:\n{tail}")

    def stop(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = None
