"""Loads and unloads versions: TensorFlow Serving's server core, aspired versions manager and state monitor in one.

The file system (storage.py) determines the aspired versions. One thread loads and unloads step by step. It loads the
highest aspired version that is not loaded. It unloads a version that is no longer aspired only once an aspired version
is available, or none is aspired. So a version is available throughout a hot swap.
"""

import enum
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from nightly_server import config, storage
from nightly_server.errors import ServingError, invalid, not_found, precondition, unknown
from nightly_server.limits import excerpt
from nightly_server.servable import Servable

log = logging.getLogger(__name__)

Load = Callable[[str, int, str], Servable]  # model, version, path


class State(enum.IntEnum):
    """The states of get_model_status.proto."""

    START = 10  # aspired, waits to be loaded
    LOADING = 20  # also during its warm-up, and while it waits for a retry
    AVAILABLE = 30
    UNLOADING = 40  # takes no new requests, finishes those in flight
    END = 50  # unloaded, or failed to load, with the error


@dataclass
class Version:
    model: str
    number: int
    path: str
    state: State = State.START
    aspired: bool = True
    error: ServingError | None = None
    servable: Servable | None = None
    in_flight: int = 0
    failures: int = 0
    retry_at: float | None = None  # monotonic seconds, while it waits for a retry

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.number}}}"


class Manager:
    """The loaded versions of all models. Thread-safe.

    :param labels_for_unavailable: a new label may point at a version that is not loaded yet
    :param retries: retries of a version that does not load, while it is aspired
    :param retry_seconds: the pause before each retry; other versions are loaded and unloaded meanwhile
    """

    def __init__(
        self, load: Load, *, labels_for_unavailable: bool = False, retries: int = 0, retry_seconds: float = 0
    ) -> None:
        self._load = load
        self._labels_for_unavailable = labels_for_unavailable
        self._retries = retries
        self._retry_seconds = max(retry_seconds, 0)
        self._reloading = threading.Lock()
        self._changed = threading.Condition()  # guards the attributes below
        self._config: model_server_config_pb2.ModelServerConfig | None = None
        self._labels: dict[str, dict[str, int]] = {}
        self._aspired: dict[str, dict[int, str]] = {}  # model -> aspired version -> path
        self._versions: dict[str, dict[int, Version]] = {}  # every version ever aspired, even in state END
        self._stopping = False
        self._thread = threading.Thread(target=self._manage, name="manager", daemon=True)
        self._thread.start()

    # Requests

    @contextmanager
    def serving(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Yield the version that `spec` names; it stays loaded within the block. Raise ServingError."""
        with self._changed:
            version = self._find(spec)
            version.in_flight += 1
        try:
            yield version.servable
        finally:
            with self._changed:
                version.in_flight -= 1
                if version.in_flight == 0 and version.state is State.UNLOADING:
                    self._changed.notify_all()

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the states of one version, or of all, newest first. Labels are ignored, as in TensorFlow Serving."""
        response = get_model_status_pb2.GetModelStatusResponse()
        with self._changed:
            versions = self._versions.get(spec.name, {})
            numbers = sorted(versions, reverse=True)
            if spec.HasField("version"):
                numbers = [spec.version.value]
                if spec.version.value not in versions:
                    raise not_found(f"Could not find version {spec.version.value} of model {excerpt(spec.name)}")
            elif not versions:
                raise not_found(f"Could not find any versions of model {excerpt(spec.name)}")
            for number in numbers:
                version = versions[number]
                status = response.model_version_status.add(version=number, state=int(version.state))
                status.status.SetInParent()
                if version.error:
                    status.status.error_code = version.error.number
                    status.status.error_message = version.error.message
        return response

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        versions = self._versions.get(spec.name, {})
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            latest = max((n for n, version in versions.items() if version.state is State.AVAILABLE), default=None)
            if latest is None:
                raise not_found(f"Servable not found for request: Latest({excerpt(spec.name)})")
            return versions[latest]
        number = spec.version.value
        if choice == "version_label":
            labels = self._labels.get(spec.name, {})
            if spec.version_label not in labels:
                raise invalid(f"Unrecognized servable version label: {excerpt(spec.version_label)}")
            number = labels[spec.version_label]
        if number not in versions or versions[number].state is not State.AVAILABLE:
            raise not_found(f"Servable not found for request: Specific({excerpt(spec.name)}, {number})")
        return versions[number]

    # Configuration

    def reload(self, new: model_server_config_pb2.ModelServerConfig) -> None:
        """Replace the whole configuration, and wait for its new models.

        For a new model without a version TensorFlow Serving waits for ever, before it listens. Here such a model is
        NOT_FOUND until its first version appears. Raise ServingError; a refused configuration changes nothing.
        """
        with self._reloading:
            config.validate(new, self._config)
            if new.WhichOneof("config") is None:
                log.info("Taking no action for empty config.")
                return
            models = {model.name for model in new.model_config_list.config}
            with self._changed:
                self._labels = self._checked_labels(new)
                added = models - (
                    {model.name for model in self._config.model_config_list.config} if self._config else set()
                )
                for model in added:  # forgets versions that ended under an earlier configuration
                    ended = self._versions.pop(model, {})
                    self._versions[model] = {n: v for n, v in ended.items() if v.state is not State.END}
                for removed in set(self._aspired) - models:
                    self._aspired[removed] = {}
                self._config = new
            self.poll()
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or all(self._settled(model) for model in added))
                failed = [v for v in map(self._first_settled, added) if v is not None and v.error is not None]
            if failed:
                causes = "".join(f"{{{version} due to error: {version.error}}}, " for version in failed)
                raise unknown(f"{len(failed)} servable(s) did not become available: {{{causes}}}")

    def poll(self) -> None:
        """Look for versions on the file system once."""
        with self._changed:
            models = list(self._config.model_config_list.config) if self._config else []
        aspired = {model.name: storage.aspired_versions(model) for model in models}
        with self._changed:
            current = {model.name for model in self._config.model_config_list.config} if self._config else set()
            for model, versions in aspired.items():
                if versions is not None and model in current:
                    self._aspired[model] = versions
            self._aspire()
            self._changed.notify_all()

    def _checked_labels(self, new: model_server_config_pb2.ModelServerConfig) -> dict[str, dict[str, int]]:
        """Return the labels of `new`. Raise ServingError if a label points at a version that is not available yet."""
        labels: dict[str, dict[str, int]] = {}
        for model in new.model_config_list.config:
            for label, number in model.version_labels.items():
                version = self._versions.get(model.name, {}).get(number)
                available = version is not None and version.state is State.AVAILABLE
                moves = self._labels.get(model.name, {}).get(label, number) != number
                if not available and (moves or not self._labels_for_unavailable):
                    raise precondition(
                        f"Request to assign label to version {number} of model {model.name}, which is not currently "
                        "available for inference"
                    )
                labels.setdefault(model.name, {})[label] = number
        return labels

    def _first_settled(self, model: str) -> Version | None:
        versions = self._versions.get(model, {})
        settled = (State.AVAILABLE, State.END)
        return next((versions[n] for n in sorted(versions, reverse=True) if versions[n].state in settled), None)

    def _settled(self, model: str) -> bool:
        return not self._aspired.get(model) or self._first_settled(model) is not None

    # Versions

    def _aspire(self) -> None:
        """Mark the versions on disk as aspired. A version that failed is loaded again only after it was removed."""
        for model in set(self._aspired) | set(self._versions):
            paths = self._aspired.get(model, {})
            versions = self._versions.setdefault(model, {}) if paths else self._versions.get(model, {})
            for number, version in versions.items():
                if version.state is not State.UNLOADING:
                    was_aspired, version.aspired = version.aspired, number in paths
                    if not version.aspired and (version.state is State.START or version.retry_at is not None):
                        version.state, version.retry_at = State.END, None
                    elif version.state is State.END and version.aspired and not was_aspired:
                        versions[number] = Version(model, number, paths[number])
            for number, path in paths.items():
                if number not in versions:
                    versions[number] = Version(model, number, path)

    def _manage(self) -> None:
        while True:
            with self._changed:
                self._aspire()
                while not self._stopping and (action := self._next_action()) is None:
                    self._changed.wait(self._seconds_to_retry())
                if self._stopping:
                    return
            step, version = action
            step(version)

    def _next_action(self) -> tuple[Callable[[Version], None], Version] | None:
        """Return the next step and its version, or None; unloads come before loads."""
        unloads, loads = [], []
        for versions in self._versions.values():
            aspired = [version for version in versions.values() if version.aspired]
            leaving = [v for v in versions.values() if not v.aspired and v.state is State.AVAILABLE]
            replaced = any(version.state is State.AVAILABLE for version in aspired)
            if leaving and (not aspired or replaced or len(leaving) > 1):
                unloads.append(min(leaving, key=lambda version: version.number))
            new = [v for v in aspired if v.state is State.START or (v.retry_at or math.inf) <= time.monotonic()]
            if new:
                loads.append(max(new, key=lambda version: version.number))
        if unloads:
            return self._unload_version, unloads[0]
        return (self._load_version, loads[0]) if loads else None

    def _seconds_to_retry(self) -> float | None:
        waiting = [v.retry_at for versions in self._versions.values() for v in versions.values() if v.retry_at]
        return max(min(waiting) - time.monotonic(), 0) if waiting else None

    def _load_version(self, version: Version) -> None:
        self._enter(version, State.LOADING)
        try:
            servable = self._load(version.model, version.number, version.path)
        except Exception as error:
            failure = ServingError.of(error)
            log.error("Servable %s cannot be loaded: %s", version, failure, exc_info=log.isEnabledFor(logging.DEBUG))
            self._failed(version, failure)
        else:
            version.servable = servable
            self._enter(version, State.AVAILABLE)

    def _failed(self, version: Version, failure: ServingError) -> None:
        version.failures += 1
        if version.failures <= self._retries and version.aspired:
            log.info("Servable %s is tried again in %g s (%s)", version, self._retry_seconds, version.failures)
            with self._changed:
                version.retry_at = time.monotonic() + self._retry_seconds
        else:
            version.error = failure
            self._enter(version, State.END)

    def _unload_version(self, version: Version) -> None:
        self._enter(version, State.UNLOADING)
        with self._changed:
            self._changed.wait_for(lambda: version.in_flight == 0)
        version.servable.close()
        version.servable = None
        self._enter(version, State.END)

    def _enter(self, version: Version, state: State) -> None:
        with self._changed:
            version.state, version.retry_at = state, None
            self._changed.notify_all()
        log.info("Servable %s is %s", version, state.name)

    def stop(self) -> None:
        """Take no further action. Loaded versions stay until the process ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
