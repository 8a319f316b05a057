"""The client: one set of calls, over REST or gRPC."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .canary import Canary
from .errors import ServingError
from .grpc_transport import GrpcTransport
from .log import PredictionLog
from .rest_transport import RestTransport
from .spec import Spec

LOG = logging.getLogger("nightly_client")
VERSION_SECONDS = 5.0  # how long a REST client caches a label's version; it needs it only to log predictions
FIRST_WAIT = 0.05  # seconds before the first retry; doubled each time
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """`values` has a value for each row, or a dict by output if there are several.

    `version` is None if it is not known: a REST response does not name its version.
    """

    values: list[Any]
    version: int | None
    label: str | None = None


@dataclass(frozen=True)
class VersionStatus:
    state: str  # START, LOADING, AVAILABLE, UNLOADING, END
    error: str  # why it failed to load; "" if it did not
    code: str = ""  # the error's code, as a ServingError has it


@dataclass(frozen=True)
class Metadata:
    """signature -> {"method": …, "inputs": {name: {"dtype", "shape"}}, "outputs": …}; -1 stands for any dimension."""

    version: int
    signatures: dict[str, dict[str, Any]] = field(default_factory=dict)


class Client:
    """A client of one model server. Thread-safe.

    :param address: http://host:8501 or https://… for REST, grpc://host:8500 or grpcs://… for gRPC
    :param timeout: seconds for a call with all its retries
    :param retries: how often a call that changes nothing is retried while the server is UNAVAILABLE
    :param canary: sends a share of the callers to the label `canary`, the others to `stable`
    :param log: records every row that was answered
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        retries: int = 2,
        canary: Canary | None = None,
        log: PredictionLog | None = None,
    ) -> None:
        scheme, netloc = urlsplit(address)[:2]
        if scheme not in ("http", "https", "grpc", "grpcs") or not netloc:
            raise ValueError(f"{address!r} is no address: write http://host:8501 or grpc://host:8500")
        self.address = address
        if retries < 0:
            raise ValueError(f"retries are 0 or more, not {retries}")
        self.timeout = _checked(timeout)
        self.retries = retries
        self.canary = canary
        self.log = log
        grpc = scheme.startswith("grpc")
        self._transport = GrpcTransport(netloc, tls=scheme == "grpcs") if grpc else RestTransport(address.rstrip("/"))
        self._names_version = grpc
        self._versions: dict[Spec, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The log stays open."""
        self._transport.close()

    def predict(
        self,
        model: str,
        instances: Sequence[Any],
        *,
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        caller: str | None = None,
        ids: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """Predict, in row format: each instance is a dict by input, or the value of the only input.

        :param caller: with a canary, chooses the label, unless version or label is given
        :param ids: an id for each row, for the log
        :raises ServingError: if the server refuses the call or is not reached
        """

        def call(spec: Spec, seconds: float) -> tuple[list[Any], int | None]:
            return self._transport.predict(spec, signature, list(instances), seconds)

        return self._infer(call, model, list(instances), version, label, caller, ids, timeout)

    def classify(
        self, model: str, examples: Sequence[dict[str, Any]], *, signature: str = "", **how: Any
    ) -> Prediction:
        """Classify feature dicts; return a list of (class, score) for each. `how` takes the arguments of `predict`."""

        def call(spec: Spec, seconds: float) -> tuple[list[Any], int | None]:
            return self._transport.classify(spec, signature, list(examples), seconds)

        return self._infer(call, model, list(examples), **_call_options(how))

    def regress(self, model: str, examples: Sequence[dict[str, Any]], *, signature: str = "", **how: Any) -> Prediction:
        """Regress feature dicts; return a float for each. `how` takes the arguments of `predict`."""

        def call(spec: Spec, seconds: float) -> tuple[list[Any], int | None]:
            return self._transport.regress(spec, signature, list(examples), seconds)

        return self._infer(call, model, list(examples), **_call_options(how))

    def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> Metadata:
        """Return a version's number and signatures. Raises ServingError."""
        spec = Spec(model, version, label)
        return Metadata(*self._retrying(lambda seconds: self._transport.metadata(spec, seconds)))

    def status(self, model: str, version: int | None = None) -> dict[int, VersionStatus]:
        """Return version -> state, newest first. Raises ServingError (NOT_FOUND) for an unknown model or version."""
        statuses = self._retrying(lambda seconds: self._transport.status(Spec(model, version), seconds))
        return {number: VersionStatus(*status) for number, status in statuses.items()}

    def reload_config(self, config: Any, *, timeout: float | None = None) -> None:
        """Replace the server's whole configuration by a ModelServerConfig (of any protobuf module) or its text.

        gRPC only. The server answers when it has loaded the new models. The call is not retried: if it fails on the
        way, the server's configuration is unknown.
        """
        self._transport.reload_config(config, self.timeout if timeout is None else timeout)

    def _infer(self, call, model, rows, version, label, caller, ids, timeout) -> Prediction:
        if ids is not None and len(ids) != len(rows):
            raise ValueError(f"{len(ids)} ids for {len(rows)} rows: give one for each")
        chosen = self.canary is not None and version is None and label is None
        if chosen:
            if caller is None:
                raise ValueError("with a canary each call needs `caller`, `version` or `label`")
            label = self.canary.label(caller)
        try:
            answer = self._answer(call, Spec(model, version, label), timeout)
        except ServingError as error:
            if not (chosen and label == "canary" and error.code in ("INVALID_ARGUMENT", "NOT_FOUND")):
                raise
            # The label or its version is gone: the canary has ended. If the request is at fault instead, the stable
            # version refuses it too.
            answer = self._answer(call, Spec(model, None, "stable"), timeout)
        if self.log is not None:
            self.log.write(
                rows,
                answer.values,
                model=model,
                version=answer.version,
                label=answer.label,
                caller=caller,
                ids=ids,
            )
        return answer

    def _answer(self, call, spec: Spec, timeout: float | None) -> Prediction:
        if self._names_version or spec.version is not None or self.log is None:
            values, version = self._retrying(lambda seconds: call(spec, seconds), timeout)
            return Prediction(values, version if version is not None else spec.version, spec.label)
        # A REST response does not name its version, so the label's version is looked up and then called by number.
        for last in (False, True):
            addressed = Spec(spec.model, self._version_of(spec, refresh=last))
            try:
                values, _ = self._retrying(lambda seconds: call(addressed, seconds), timeout)  # noqa: B023
                return Prediction(values, addressed.version, spec.label)
            except ServingError as error:
                if last or error.code != "NOT_FOUND":  # the label has moved, and the version is gone
                    raise
        raise AssertionError("unreachable")

    def _version_of(self, spec: Spec, *, refresh: bool) -> int:
        now = time.monotonic()
        with self._lock:
            version, until = self._versions.get(spec, (0, 0.0))
        if refresh or now >= until:
            version = self.metadata(spec.model, label=spec.label).version
            with self._lock:
                self._versions[spec] = (version, now + VERSION_SECONDS)
        return version

    def _retrying(self, call: Callable[[float], Result], timeout: float | None = None) -> Result:
        """Call with the remaining seconds, and retry while the server is unavailable."""
        deadline = time.monotonic() + (self.timeout if timeout is None else _checked(timeout))
        for attempt in range(self.retries + 1):
            try:
                return call(max(deadline - time.monotonic(), 0.001))
            except ServingError as error:
                wait = FIRST_WAIT * 2**attempt * random.uniform(0.5, 1)  # jitter, against simultaneous retries
                if error.code != "UNAVAILABLE" or attempt == self.retries or time.monotonic() + wait >= deadline:
                    raise
                LOG.info("%s, trying again in %.2f s", error, wait)
                time.sleep(wait)
        raise AssertionError("unreachable")


def _call_options(options: dict[str, Any]) -> dict[str, Any]:
    defaults = dict.fromkeys(("version", "label", "caller", "ids", "timeout"))
    if unknown := options.keys() - defaults.keys():
        raise TypeError(f"unexpected {', '.join(sorted(unknown))}; known are {', '.join(defaults)}")
    return defaults | options


def _checked(timeout: float) -> float:
    if not 0 < timeout < math.inf:
        raise ValueError(f"a timeout is a number of seconds above 0, not {timeout}")
    return timeout
