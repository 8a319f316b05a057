"""The embedded model server as a process on this machine, for `make up`, the demo and tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.child import Child
from nightly.io.paths import Paths, python_path
from nightly.serving import address, server_files

START_SECONDS = 600  # enough on a loaded machine; a process that ends fails at once
READY = re.compile(r"ready grpc=(\S+) rest=(\S+)")


class ModelServerDidNotStart(Exception):
    """The server did not start; the message quotes the end of its log."""


class LocalModelServer:
    """A process of `python -m nightly_server` with `flags`, by default on free ports."""

    def __init__(self, paths: Paths, log: Path, **flags: object) -> None:
        self.paths = paths
        self.log = log
        self.flags = {"port": 0, "rest_api_port": 0, **flags}
        self.grpc = self.rest = ""  # host:port, once it is running
        self._of_releases = False
        self._child: Child | None = None

    @classmethod
    def of_releases(cls, paths: Paths, log: Path, **flags: object) -> LocalModelServer:
        """Return a server of all releases in the serving volume, with the project's settings."""
        models, batching, monitoring = server_files.write(paths, str(paths.serving))
        server = cls(
            paths,
            log,
            model_config_file=models,
            allow_version_labels_for_unavailable_models="true",
            max_num_load_retries=0,  # a version that does not load is reported at once
            enable_batching="true",
            batching_parameters_file=batching,
            monitoring_config_file=monitoring,
            **flags,
        )
        server._of_releases = True
        return server

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with this server's addresses."""
        return {"NIGHTLY_SERVING_REST": self.rest, "NIGHTLY_SERVING_GRPC": self.grpc}

    @property
    def url(self) -> str:
        return f"http://{self.rest}"

    @contextmanager
    def running(self) -> Iterator[LocalModelServer]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start the server and wait for the line with its ports."""
        self.log.unlink(missing_ok=True)
        command = [str(self.paths.ml_python), "-m", "nightly_server"]
        command += [f"--{name}={value}" for name, value in self.flags.items()]
        environment = {**os.environ, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._child = Child(command, self.log, environment)
        ready = self._child.wait_for(lambda: READY.search(self.log.read_text(errors="replace")), START_SECONDS)
        if not ready:
            self.stop()
            tail = self._child.last_lines(20)
            raise ModelServerDidNotStart(f"the model server did not start; {self.log} ends:\n{tail}")
        self.grpc, self.rest = ready.groups()
        if self._of_releases:  # so that commands in other shells find it
            address.record(self.paths, self._address)

    def stop(self) -> None:
        if self._of_releases and self.rest:
            address.forget(self.paths, self._address)
        if self._child is not None:
            self._child.stop()

    @property
    def _address(self) -> address.ServerAddress:
        return address.ServerAddress(rest=self.rest, grpc=self.grpc, base_path=str(self.paths.serving))
