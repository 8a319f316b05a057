"""A loaded version: a SavedModel in its own session, fed and fetched by tensor name.

It is loaded into a graph session, as in TensorFlow Serving, and not with `tf.saved_model.load`. So TF1 and TF2 exports,
signatures with method names, and partial outputs work the same way, and a call costs 30 µs instead of 250.
"""

import gc
import math
import threading
import time
from collections.abc import Iterable

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from nightly_server.batching import BatchQueue, BatchScheduler, Run
from nightly_server.dtypes import type_name
from nightly_server.errors import ServingError, exceeded, invalid, not_found
from nightly_server.monitoring import (
    EXAMPLE_COUNT_TOTAL,
    EXAMPLE_COUNTS,
    LOAD_ATTEMPTS,
    LOAD_LATENCY,
    RUNTIME_LATENCY,
    Metrics,
)


class Servable:
    """A version loaded from `path`. Raises ServingError with the code and text of the version's END status."""

    def __init__(
        self,
        model: str,
        version: int,
        path: str,
        *,
        metrics: Metrics,
        batching: BatchScheduler | None,
        session: tf.compat.v1.ConfigProto | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self._metrics = metrics
        self._batching = batching
        self._lock = threading.Lock()
        self._runners: dict[tuple, tuple[Run, BatchQueue | None]] = {}
        started = time.monotonic()
        try:
            self._session, self.signatures = _load(path, session)
        except ServingError:
            metrics.count(LOAD_ATTEMPTS, model_path=path, status="fail")
            raise
        self._dtypes = {
            info.name: tf.as_dtype(info.dtype)
            for signature in self.signatures.values()
            for info in signature.inputs.values()
        }
        metrics.count(LOAD_LATENCY, int((time.monotonic() - started) * 1e6), model_path=path)
        metrics.count(LOAD_ATTEMPTS, model_path=path, status="success")

    def run(
        self, feeds: dict[str, np.ndarray], fetches: Iterable[str], api: str, deadline: float = math.inf
    ) -> dict[str, np.ndarray]:
        """Return the tensors named in `fetches`, computed from `feeds`; with batching, through the batch queue.

        A run that has begun cannot be stopped. No run begins after `deadline` of the monotonic clock.
        """
        names, outputs = tuple(sorted(feeds)), tuple(dict.fromkeys(fetches))
        arrays = [feeds[name] for name in names]
        for position, (name, array) in enumerate(zip(names, arrays, strict=True)):
            actual, expected = tf.as_dtype(array.dtype), self._dtypes[name]
            if actual != expected:
                expected_name, actual_name = type_name(expected), type_name(actual)
                raise invalid(f"Expects arg[{position}] to be {expected_name} but {actual_name} is provided")
        started = time.monotonic()
        if started >= deadline:
            raise exceeded("Timed out waiting for notification")
        direct, queue = self._runner(names, outputs)
        try:
            values = direct(*arrays) if queue is None else queue(arrays, deadline)
        except tf.errors.OpError as error:
            raise ServingError.of_run(error) from None
        elapsed = (time.monotonic() - started) * 1e6
        self._metrics.observe(RUNTIME_LATENCY, elapsed, model_name=self.model, API=api, runtime="TF1")
        return dict(zip(outputs, values, strict=True))

    def record_examples(self, count: int) -> None:
        self._metrics.observe(EXAMPLE_COUNTS, count, model=self.model)
        self._metrics.count(EXAMPLE_COUNT_TOTAL, count, model=self.model)

    def close(self) -> None:
        """Free the session. No request may be running."""
        for _, queue in self._runners.values():
            if queue is not None:
                queue.close()
        self._runners.clear()
        self._session.close()
        self._session = None
        gc.collect()  # a graph has many reference cycles; fast, since the modules are frozen

    def _runner(self, names: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[Run, BatchQueue | None]:
        runner = self._runners.get((names, outputs))
        if runner is None:
            with self._lock:
                runner = self._runners.get((names, outputs))
                if runner is None:
                    options = config_pb2.CallableOptions(feed=names, fetch=outputs)
                    # Session.run and Session.make_callable resolve names in Python on every call: 180 µs for 30.
                    direct = _arrays(self._session._make_callable_from_options(options))
                    queue = None if self._batching is None else self._batching.queue(list(names), direct)
                    runner = self._runners[names, outputs] = direct, queue
        return runner


def _arrays(run: Run) -> Run:
    """Wrap `run` to return arrays only: TensorFlow returns a scalar string as bytes."""

    def run_to_arrays(*inputs: np.ndarray) -> list[np.ndarray]:
        return [np.array(value, dtype=object) if isinstance(value, bytes) else value for value in run(*inputs)]

    return run_to_arrays


def _load(path: str, config: tf.compat.v1.ConfigProto | None) -> tuple[tf.compat.v1.Session, dict]:
    """Return the session and the signatures by name."""
    if not any(tf.io.gfile.exists(f"{path}/saved_model.{suffix}") for suffix in ("pb", "pbtxt")):
        raise not_found(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check that the "
            "directory exists and that you have the right permissions for accessing it."
        )
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], path)
    except BaseException as error:
        session.close()
        if isinstance(error, RuntimeError) and "could not be found in SavedModel" in str(error):
            raise not_found(
                "Could not find meta graph def matching supplied tags: { serve }. To inspect available tag-sets in the "
                "SavedModel, please use the SavedModel CLI: `saved_model_cli`"
            ) from None
        if isinstance(error, OSError):
            raise ServingError(
                grpc.StatusCode.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto"
            ) from None
        if isinstance(error, Exception):
            raise ServingError.of(error) from error
        raise
    return session, dict(meta_graph.signature_def)
