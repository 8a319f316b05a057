"""One model on a model server, and in the configuration that the server is started with.

Where the server is, address.py says. Where none is known, of a release only the files are verified, and the
configuration is written for a server that is started later.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from operator import not_
from pathlib import Path

from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.config import Release
from nightly.records.release import ReleaseRecord, Verification
from nightly.release.errors import ReleaseNotVerified, ServerNotReached
from nightly.release.store import ReleaseStore
from nightly.serving import verify
from nightly.serving.address import ServerAddress, base_path, find_address
from nightly.serving.address import path as address_file
from nightly.serving.models_config import CANARY, LOADED, STABLE, LiveConfig, write
from nightly_client import Client, ServingError

log = logging.getLogger("nightly")

CALL_SECONDS = 10.0


class ConfigurationFile:
    """A model in models.config, for a server that nobody knows: what a server started with the file will serve."""

    address = ""

    def __init__(self, paths: Paths, model: str) -> None:
        self.paths = paths
        self.model = model
        self.live = LiveConfig(paths.serving, base_path(paths))

    def check(self) -> None:
        """There is no server to ask."""

    def serve(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """Give `version` the label `stable` in the file, and `canary` that of this name. None takes the model out."""
        if not self.live.path.exists():
            write(self.paths, self.live.base_path)  # the other models too
        self.write(version, loadable, canary)

    def write(self, version: int | None, loadable: list[int], canary: int | None = None) -> None:
        """The same, where the file is there: a server that was started without it must not be given it."""
        if self.live.path.exists():
            with self.live.serving(self.model, version, loadable, canary):
                pass


def find_server(paths: Paths, model: str, config: Release) -> "ConfigurationFile":
    """The model on the server that is known here, or in the configuration file alone. Raises ContractError."""
    address = find_address(paths)
    return ModelServer(paths, model, address, config) if address else ConfigurationFile(paths, model)


class ModelServer(ConfigurationFile):
    """One model on a model server, as the release store needs it."""

    def __init__(self, paths: Paths, model: str, address: ServerAddress, config: Release) -> None:
        super().__init__(paths, model)
        self.config = config
        self._rest = Client(f"http://{address.rest}", timeout=CALL_SECONDS)
        self._grpc = Client(f"grpc://{address.grpc}", timeout=CALL_SECONDS)
        self.address = self._grpc.address

    def check(self) -> None:
        """Raises ServerNotReached when the server does not answer, or is not run from our configuration file."""
        self._configured()
        for client in (self._grpc, self._rest):
            look = partial(_problem, client, self.model)
            if problem := poll(look, until=not_, seconds=verify.REACH_SECONDS, every=verify.POLL_SECONDS):
                raise ServerNotReached(
                    f"the model server does not answer at {client.address}: {problem}. Start it; or, if there is none "
                    f"any more, delete {address_file(self.paths)}, or unset NIGHTLY_SERVING_REST and _GRPC."
                )

    def verify(self, record: ReleaseRecord, previous: int | None) -> Verification:
        """Wait for the version, compare its golden predictions, measure it.

        Raises ReleaseNotVerified for what is the version's fault, NotLoadedInTime, and ServerNotReached.
        """
        golden = verify.read_golden(Path(record.path))
        if not self._configured():
            try:
                self._apply(self.live.changing(self.model, {}, [record.version]), seconds=verify.REACH_SECONDS)
            except ServerNotReached as error:
                # A reload waits for a new model, with TensorFlow Serving for minutes: the version's status says more.
                log.info("%s; looking at the version itself", error)
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
        """Give `version` the label `stable`, in two steps: it is loaded first. None takes the model out.

        `canary` gets the label of that name; None takes the label away. Raises ReleaseNotVerified, with the labels
        where they were, when the version does not load; ServerNotReached when it is not known what the server has.
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
        for label, wanted in ((STABLE, version), (CANARY, canary)):
            if wanted is not None and (answers := self._answering(label)) != wanted:
                raise ReleaseNotVerified(f"{label} of {self.model} is {answers} after it was moved to {wanted}")
        if depth == 1:  # nothing newer is left on disk: without a label it is this version that answers, soon
            newest = poll(
                lambda: self._answering(None),
                until=lambda answers: answers == version,
                seconds=self.config.timeout_seconds,
                every=verify.POLL_SECONDS,
            )
            if newest != version:
                raise ReleaseNotVerified(
                    f"{self.model} still answers with {newest}, not {version}, when asked without a label"
                )
        log.info("%s of %s is %s%s", STABLE, self.model, version, f", {CANARY} {canary}" if canary else "")

    def _configured(self) -> bool:
        """Whether the server has the model. Raises ServerNotReached for a server that is not ours to configure."""
        try:
            entries = self.live.read().model_config_list.config
        except FileNotFoundError:
            raise ServerNotReached(
                f"{self.live.path} does not exist, so the server at {self.address} is not run from it, and moving a "
                "label would drop all its models. Write the file with `python -m nightly.serving.models_config`, and "
                "start the server with it as its --model_config_file."
            ) from None
        for entry in entries:
            self._refuse_another_projects(entry.name)
        return any(entry.name == self.model for entry in entries)

    def _refuse_another_projects(self, model: str) -> None:
        """A recorded server may have ended, and another have its port: that serves versions which we have not."""
        store = ReleaseStore(self.paths.serving, self.paths.releases, model)
        known = {record.version for record in store.disk.records()} | {int(name) for name in store.disk.unrecorded()}
        try:
            served = {version for version, found in self._grpc.status(model).items() if found.state == "AVAILABLE"}
        except ServingError:  # it does not answer, or has not heard of the model: who needs that asks again
            return
        if served - known:
            raise ServerNotReached(
                f"the server at {self.address} serves {model} {max(served - known)}, which is not in "
                f"{store.disk.folder}: it is another project's. Start this one's, or delete "
                f"{address_file(self.paths)} if it names a server that has ended."
            )

    def _answering(self, label: str | None) -> int:
        return self._ask(lambda: self._grpc.metadata(self.model, label=label).version)

    def _apply(self, changing: AbstractContextManager[str], seconds: float | None = None) -> None:
        """Change the model's part of the configuration, in the file and in the server."""
        with changing as text:
            self._ask(lambda: self._grpc.reload_config(text, timeout=seconds or self.config.timeout_seconds))

    def _ask(self, call: Callable):
        try:
            return call()
        except ServingError as error:
            if error.code in verify.NOT_REACHED:
                raise ServerNotReached(f"the model server at {self.address} does not answer: {error}") from None
            raise ReleaseNotVerified(f"the model server at {self.address} refused, for {self.model}: {error}") from None


def _problem(client: Client, model: str) -> str:
    """Why the server cannot be asked about `model`; "" when it can, and be it to say that it does not know it."""
    try:
        client.status(model)
    except ServingError as error:
        return str(error) if error.code in verify.NOT_REACHED else ""
    return ""
