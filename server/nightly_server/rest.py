"""The REST API: paths, status codes and bodies of TensorFlow Serving's HTTP handler."""

import asyncio
import json
import logging
import os
import pickle
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, model_pb2, regression_pb2

from nightly_server import inference, json_requests, json_responses, limits, memory
from nightly_server.bodies import Body, BodyReader, inflate, scratch_file
from nightly_server.errors import ServingError, invalid
from nightly_server.manager import Manager
from nightly_server.monitoring import REQUEST_COUNT, REQUEST_LATENCY, Metrics
from nightly_server.processes import Processes
from nightly_server.servable import Servable

log = logging.getLogger(__name__)

GRACE_SECONDS = 0.1  # extra time for the thread's own, more precise timeout error

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)
_NO_MODEL = re.compile(r"/v1/models(?:/metadata)?", re.IGNORECASE)

_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}  # all others: 500


class Call(NamedTuple):
    """The parsed body of a prediction."""

    signature_name: str
    inputs: Any  # tensors by name, or an Input of tf.Examples
    rows: bool = False


class Answer(NamedTuple):
    """The result of a prediction, before it becomes text."""

    api: str
    result: Any
    rows: bool

    @property
    def is_large(self) -> bool:
        arrays = self.result.values() if isinstance(self.result, dict) else ()
        size = sum(array.nbytes for array in arrays) if arrays else self.result.ByteSize()
        return size > limits.LARGE_ANSWER_BYTES

    def text(self) -> str:
        return _APIS[self.api].write(self.result, self.rows)


class RestApi:
    """Answers requests in `threads`; large texts are converted in `processes`.

    :param timeout: seconds for a request to arrive, and again for its work, including the wait for a thread
    """

    def __init__(
        self,
        manager: Manager,
        metrics: Metrics,
        threads: Executor,
        processes: Processes,
        prometheus_path: str,
        *,
        timeout: float,
        max_body_bytes: int,
    ) -> None:
        self._manager = manager
        self._metrics = metrics
        self._threads = threads
        self._processes = processes
        self._prometheus_path = prometheus_path
        self._timeout = timeout
        self._bodies = BodyReader(timeout, max_body_bytes)
        self._large = asyncio.Semaphore(limits.LARGE_REQUESTS)
        # Called with the connection of each request.
        self.on_request: Callable[[web.RequestHandler], None] = lambda protocol: None
        self.application = web.Application()
        self.application.router.add_route("*", "/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.on_request(request.protocol)
        path = request.rel_url.raw_path
        if self._prometheus_path and path == self._prometheus_path:
            return web.Response(text=self._metrics.page())
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404)
        try:
            async with self._bodies.reading(request) as body:
                return await self._work(request, path, body)
        except web.HTTPRequestEntityTooLarge as error:
            return _error(413, error.text or "")
        except TimeoutError:
            response = _error(408, f"The request did not arrive within {self._timeout:g} s, and 1 s for each MiB")
            response.force_close()
            return response
        except ServingError as error:
            return _error(_HTTP_STATUS.get(error.code, 500), error.message)

    async def _work(self, request: web.Request, path: str, body: Body) -> web.StreamResponse:
        deadline = time.monotonic() + self._timeout
        encoding = request.headers.get("Content-Encoding", "")
        try:
            # A run cannot be stopped and goes on in its thread. Work that still waits for a thread never begins.
            async with asyncio.timeout(self._timeout + GRACE_SECONDS):
                answer = await self._response_text(request.method, path, body, encoding, deadline)
        except TimeoutError:
            return _error(504, "Timed out waiting for notification")
        except web.HTTPRequestEntityTooLarge:
            raise
        except Exception as error:
            failure = ServingError.of(error)
            if failure.code is grpc.StatusCode.INTERNAL:
                log.exception("%s %s", request.method, path)
            raise failure from None
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="application/json")
        with answer:
            return await _send(request, answer, self._timeout)

    async def _response_text(
        self, method: str, path: str, body: Body, encoding: str, deadline: float
    ) -> str | BinaryIO:
        """Return the response's text, in a file if it is large."""
        match = _PREDICTION.fullmatch(path) if method == "POST" else None
        if match is None:
            return await self._in_thread(_status_or_metadata, self._manager, method, path)
        if encoding:
            try:
                body = await self._in_thread(inflate, body, encoding, limits.MAX_INFLATED_BYTES)
            except web.HTTPRequestEntityTooLarge:
                memory.release_soon()  # the error holds the decompressed body
                raise
        if isinstance(body, bytes):
            answer = await self._in_thread(self._predict_small, match, body, deadline)
            if isinstance(answer, str):
                return answer
        try:
            async with self._large:
                if not isinstance(body, bytes):
                    answer = await self._predict_from_file(match, body, deadline)
                return await self._write(answer)
        finally:
            memory.release_soon()

    def _predict_small(self, match: re.Match, body: bytes, deadline: float) -> str | Answer:
        api = match["method"].lower()
        spec = _model_spec(match)
        with self._counting(spec, api):
            document = json_requests.parse(body)
            with self._manager.serving(spec) as servable:
                call = _APIS[api].read(document, servable.signatures)
                answer = Answer(api, _APIS[api].run(servable, spec, call, deadline), call.rows)
            return answer if answer.is_large else answer.text()

    async def _predict_from_file(self, match: re.Match, body: BinaryIO, deadline: float) -> Answer:
        api = match["method"].lower()
        spec = _model_spec(match)
        with self._counting(spec, api), self._manager.serving(spec) as servable:
            with await self._processes.run(read_call, body, api, dict(servable.signatures)) as file:
                call = await self._in_thread(pickle.load, file)
            return Answer(api, await self._in_thread(_APIS[api].run, servable, spec, call, deadline), call.rows)

    async def _write(self, answer: Answer) -> BinaryIO:
        with scratch_file() as file:
            await self._in_thread(pickle.dump, answer, file)
            return await self._processes.run(write_answer, file)

    def _in_thread(self, function: Callable, *arguments: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    @contextmanager
    def _counting(self, spec: model_pb2.ModelSpec, api: str) -> Iterator[None]:
        started, status = time.monotonic(), grpc.StatusCode.OK
        try:
            yield
        except Exception as error:
            status = ServingError.of(error).code
            raise
        else:
            elapsed = (time.monotonic() - started) * 1e6
            self._metrics.observe(REQUEST_LATENCY, elapsed, model_name=spec.name, API=api, entrypoint="REST")
        finally:
            self._metrics.count(REQUEST_COUNT, model_name=spec.name, status=status.name)


def read_call(body: BinaryIO, call: BinaryIO, api: str, signatures: dict[str, Any]) -> None:
    """Write the parsed body of a large request as a pickled Call. Raise ServingError."""
    pickle.dump(_APIS[api].read(json_requests.parse(body.read()), signatures), call)


def write_answer(answer: BinaryIO, text: BinaryIO) -> None:
    """Write the text of a pickled Answer. Raise ServingError."""
    text.write(pickle.load(answer).text().encode())


async def _send(request: web.Request, text: BinaryIO, seconds: float) -> web.StreamResponse:
    """Send a large response; close the connection if the client does not take it in time."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    response.content_length = size = os.fstat(text.fileno()).st_size
    await response.prepare(request)
    try:
        async with asyncio.timeout(seconds + size / limits.BYTES_PER_SECOND):
            while chunk := text.read(limits.LARGE_ANSWER_BYTES):
                await response.write(chunk)
            await response.write_eof()
    except TimeoutError:
        request.protocol.force_close()
    return response


def _error(status: int, message: str) -> web.Response:
    error = {"error": limits.excerpt(message, limits.MAX_ERROR_BYTES)}
    text = json.dumps(error, indent=4, ensure_ascii=False)
    return web.Response(status=status, text=text, content_type="application/json")


def _status_or_metadata(manager: Manager, method: str, path: str) -> str:
    """Return the status or metadata of a model. Raise ServingError for any other path."""
    if method == "GET" and _NO_MODEL.fullmatch(path):
        raise invalid("Missing model name in request.")
    if method == "GET" and (match := _STATUS.fullmatch(path)):
        spec = _model_spec(match)
        return _metadata(manager, spec) if match["metadata"] else _to_json(manager.status(spec))
    raise invalid(f"Malformed request: {method} {limits.excerpt(path)}")


def _model_spec(match: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:  # int() refuses thousands of digits
            raise invalid(f"Failed to convert version: {limits.excerpt(match['version'])} to numeric.")
        spec.version.value = int(digits)
    elif match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


class _Api(NamedTuple):
    read: Callable[[dict[str, Any], Mapping[str, Any]], Call]
    run: Callable[[Servable, model_pb2.ModelSpec, Call, float], Any]
    write: Callable[[Any, bool], str]


def _read_predict(document: dict[str, Any], signatures: Mapping[str, Any]) -> Call:
    name = document.get("signature_name") or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    if name not in signatures:
        raise invalid(f'Serving signature name: "{limits.excerpt(name)}" not found in signature def')
    return Call(name, *json_requests.predict_inputs(document, signatures[name].inputs))


def _read_examples(document: dict[str, Any], signatures: Mapping[str, Any]) -> Call:
    return Call(document.get("signature_name", ""), json_requests.examples(document))


def _predict(servable: Servable, spec: model_pb2.ModelSpec, call: Call, deadline: float) -> dict[str, np.ndarray]:
    return inference.predict(servable, call.signature_name, call.inputs, deadline=deadline)


def _classify(servable: Servable, spec: model_pb2.ModelSpec, call: Call, deadline: float):
    spec.signature_name = call.signature_name
    request = classification_pb2.ClassificationRequest(model_spec=spec, input=call.inputs)
    return inference.classification_response(servable, request, deadline).result


def _regress(servable: Servable, spec: model_pb2.ModelSpec, call: Call, deadline: float):
    spec.signature_name = call.signature_name
    request = regression_pb2.RegressionRequest(model_spec=spec, input=call.inputs)
    return inference.regression_response(servable, request, deadline).result


_APIS = {
    "predict": _Api(_read_predict, _predict, json_responses.predictions),
    "classify": _Api(_read_examples, _classify, lambda result, rows: json_responses.classifications(result)),
    "regress": _Api(_read_examples, _regress, lambda result, rows: json_responses.regressions(result)),
}


def _metadata(manager: Manager, spec: model_pb2.ModelSpec) -> str:
    with manager.serving(spec) as servable:
        served = model_pb2.ModelSpec(name=servable.model)
        served.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
    return '{\n"model_spec":' + _to_json(served) + ',\n"metadata": {"signature_def": ' + _to_json(signatures) + "}\n}\n"


def _to_json(message) -> str:
    return json_format.MessageToJson(
        message, indent=1, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
