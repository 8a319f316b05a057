"""One model on a model server, and in the configuration file that the server is started with.

address.py finds the server. If none is known, only the files of a release are verified, and the configuration is
written for a server that starts later.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from operator import not_

from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.config import Release
from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import NotLoadedInTime, ReleaseNotVerified, ServerNotReached, ServerRefused
from nightly.release.store import ReleaseStore
from nightly.serving import verify
from nightly.serving.address import ServerAddress, base_path, find_address
from nightly.serving.address import path as address_file
from nightly.serving.models_config import CANARY, LOADED, STABLE, LiveConfig, config_folder, write
from nightly.state import current
from nightly_client import Client, ServingError

log = logging.getLogger("nightly")

CALL_SECONDS = 10.0


class ConfigurationFile:
    """A model's entry in models.config, which a server that is started later will read."""

    address = ""

    def __init__(self, paths: Paths, model: str) -> None:
        self.paths = paths
        self.model = model
        self.live = LiveConfig(config_folder(paths), base_path(paths))

    def check(self) -> None:
        """Do nothing: there is no server to check."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Move the labels `stable` and `canary` in the file. Without a version, remove the model."""
        if not self.live.exists():
            write(self.paths, self.live.base_path)  # the other models too; a bucket's session knows only this one
        self.write(version, loadable, canary)

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Like `serve`, but only if the file exists: a server that was started without it must not read it later."""
        if self.live.exists():
            with self.live.serving(self.model, version, loadable, canary):
                pass


def find_server(paths: Paths, model: str, config: Release) -> "ConfigurationFile":
    """Return the model on the known server, or in the configuration file alone. Raises ContractError."""
    address = find_address(paths)
    return RunningServer(paths, model, address, config) if address else ConfigurationFile(paths, model)


class RunningServer(ConfigurationFile):
    """One model on a model server whose address is known (the release store's VerifyingServer)."""

    def __init__(self, paths: Paths, model: str, address: ServerAddress, config: Release) -> None:
        super().__init__(paths, model)
        self.config = config
        self._rest = Client(f"http://{address.rest}", timeout=CALL_SECONDS)
        self._grpc = Client(f"grpc://{address.grpc}", timeout=CALL_SECONDS)
        self.address = self._grpc.address

    def check(self) -> None:
        """Raise ServerNotReached if the server does not answer, or is not run from our configuration file."""
        self._configured()
        for client in (self._grpc, self._rest):
            find_problem = partial(_problem, client, self.model)
            if problem := poll(find_problem, until=not_, seconds=verify.REACH_SECONDS, every=verify.POLL_SECONDS):
                raise ServerNotReached(
                    f"the model server does not answer at {client.address}: {problem}. Start it; or, if there is none "
                    f"any more, delete {address_file(self.paths)}, or unset NIGHTLY_SERVING_REST and _GRPC."
                )

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Wait until the version is loaded, compare its golden predictions, and measure its latency.

        Raises ReleaseNotVerified if the version is at fault, else NotLoadedInTime, ServerRefused or ServerNotReached.
        """
        store = ReleaseStore(self.paths.serving, self.paths.releases, self.model)
        golden = verify.read_golden(store.disk.find(record.version))
        if not self._configured():
            try:
                self._apply(self.live.changing(self.model, {}, [record.version]), seconds=verify.REACH_SECONDS)
            except ServerNotReached as error:
                # TensorFlow Serving's reload waits for a new model for minutes. The version's status is known earlier.
                log.info("%s; checking the version's status instead", error)
            except ServerRefused as error:
                # Any model in the file may be the cause. Only this version's own status can blame it.
                log.warning("%s; checking the version's status instead", error)
                try:
                    verify.wait_until_available(self._grpc, self.model, record.version, verify.POLL_SECONDS)
                except NotLoadedInTime:
                    raise error from None
        return verify.verify_release(
            self._rest,
            self._grpc,
            self.model,
            record.version,
            golden,
            tolerance=self.config.tolerance,
            previous=previous,
            latency_factor=self.config.latency_factor,
            timeout=self.config.timeout_seconds,
        )

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Load `version`, then move the labels `stable` and `canary`. Without a version, remove the model.

        Raises ReleaseNotVerified or ServerRefused, with the labels unchanged, if the version does not load or the
        server refuses the configuration. Raises ReleaseNotVerified after the labels have moved, if the server then
        answers with another version, and ServerNotReached, after which the server's state is unknown.
        """
        configured = self._configured()
        depth = sum(other >= version for other in loadable) if version is not None else 0
        if version is not None:
            if depth > LOADED or not configured:
                self._apply(self.live.changing(self.model, {}, loadable, load=max(depth, LOADED)))
            verify.wait_until_available(self._grpc, self.model, version, self.config.timeout_seconds)
        self._apply(self.live.serving(self.model, version, loadable, canary))
        if version is None:
            return
        for label, expected in ((STABLE, version), (CANARY, canary)):
            if expected is not None and (actual := self._answering(label)) != expected:
                raise ReleaseNotVerified(f"{label} of {self.model} is {actual} after it was moved to {expected}")
        if depth == 1:  # the version is the newest on disk, so it must soon answer requests without a label too
            newest = poll(
                lambda: self._answering(None),
                until=lambda actual: actual == version,
                seconds=self.config.timeout_seconds,
                every=verify.POLL_SECONDS,
            )
            if newest != version:
                raise ReleaseNotVerified(
                    f"{self.model} still answers with {newest}, not {version}, when asked without a label"
                )
        log.info("%s of %s is %s%s", STABLE, self.model, version, f", {CANARY} {canary}" if canary else "")

    def _configured(self) -> bool:
        """Return whether the server has the model. Raises ServerNotReached for a server that is not ours."""
        try:
            entries = self.live.read().model_config_list.config
        except FileNotFoundError:
            raise ServerNotReached(
                f"{self.live.path} does not exist, so the server at {self.address} is not run from it, and moving a "
                "label would drop all its models. Write the file with `python -m nightly.cli.configure`, and start "
                "the server with it as its --model_config_file."
            ) from None
        for entry in entries:
            self._refuse_another_projects(entry.name)
        return any(entry.name == self.model for entry in entries)

    def _refuse_another_projects(self, model: str) -> None:
        """Raise ServerNotReached if the server has versions of the model that are unknown here.

        The recorded server may have ended, and another project's server may use its port.
        """
        store = ReleaseStore(self.paths.serving, self.paths.releases, model)
        try:
            served = {version for version, status in self._grpc.status(model).items() if status.state == "AVAILABLE"}
        except ServingError:  # the server does not answer, or does not have the model: other calls report that
            return
        current().refresh(store.disk.releases)
        known = {record.version for record in store.disk.records()} | {int(name) for name in store.disk.unrecorded()}
        if served - known:
            raise ServerNotReached(
                f"the server at {self.address} serves {model} {max(served - known)}, which is not in "
                f"{store.disk.folder}: it is another project's. Start this one's, or delete "
                f"{address_file(self.paths)} if it names a server that has ended."
            )

    def _answering(self, label: str | None) -> int:
        return self._ask(lambda: self._grpc.metadata(self.model, label=label).version)

    def _apply(self, changing: AbstractContextManager[str], seconds: float | None = None) -> None:
        """Change the model's entry in the file and in the server."""
        with changing as text:
            self._ask(lambda: self._grpc.reload_config(text, timeout=seconds or self.config.timeout_seconds))

    def _ask(self, call: Callable):
        try:
            return call()
        except ServingError as error:
            if error.code in verify.NOT_REACHED:
                raise ServerNotReached(f"the model server at {self.address} does not answer: {error}") from None
            raise ServerRefused(f"the model server at {self.address} refused, for {self.model}: {error}") from None


def _problem(client: Client, model: str) -> str:
    """Return why the server does not answer; "" if it does, even if it does not have the model."""
    try:
        client.status(model)
    except ServingError as error:
        return str(error) if error.code in verify.NOT_REACHED else ""
    return ""
