"""The REST API: paths, status codes and bodies of TensorFlow Serving's HTTP handler."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from urllib.parse import unquote

import grpc
import tensorflow as tf
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, model_pb2, regression_pb2

from include.serving import inference, json_requests, json_responses
from include.serving.bodies import inflate
from include.serving.errors import ServingError, invalid
from include.serving.manager import Manager
from include.serving.monitoring import REQUEST_COUNT, REQUEST_LATENCY, Metrics

log = logging.getLogger(__name__)

GRACE_SECONDS = 0.1  # in which the thread itself says what its request was waiting for when its time was up

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


def application(
    manager: Manager, metrics: Metrics, threads: Executor, prometheus_path: str, *, timeout: float, max_body_bytes: int
) -> web.Application:
    """Requests are read and answered on the event loop, and worked on in `threads`.

    :param timeout: seconds for the work on a request, the wait for a thread included
    """

    async def answer(request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if prometheus_path and path == prometheus_path:
            return web.Response(text=metrics.page())
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return too_large()
        encoding = request.headers.get("Content-Encoding", "")
        deadline = time.monotonic() + timeout
        work = asyncio.get_running_loop().run_in_executor(
            threads, process, request.method, path, body, encoding, deadline
        )
        try:
            # A run cannot be stopped: it goes on in its thread. What still waits for a thread is never begun.
            return await asyncio.wait_for(work, timeout + GRACE_SECONDS)
        except TimeoutError:
            return failed(504, "Timed out waiting for notification")

    def process(method: str, path: str, body: bytes, encoding: str, deadline: float) -> web.Response:
        try:
            text = _process(manager, metrics, method, path, inflate(body, encoding, max_body_bytes), deadline)
        except web.HTTPRequestEntityTooLarge:
            return too_large()
        except Exception as error:
            failure = ServingError.of(error)
            if failure.code is grpc.StatusCode.INTERNAL:
                log.exception("%s %s", method, path)
            return failed(_HTTP_STATUS.get(failure.code, 500), failure.message)
        return web.Response(text=text, content_type="application/json")

    def too_large() -> web.Response:
        return failed(413, f"The body is larger than {max_body_bytes} bytes")

    def failed(status: int, message: str) -> web.Response:
        text = json.dumps({"error": message}, indent=4, ensure_ascii=False)
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application(client_max_size=max_body_bytes)
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def _process(manager: Manager, metrics: Metrics, method: str, path: str, body: bytes, deadline: float) -> str:
    if method == "POST" and (match := _PREDICTION.fullmatch(path)):
        api = match["method"].lower()
        started = time.monotonic()
        spec, status = _model_spec(match), grpc.StatusCode.OK
        try:
            text = _PREDICTIONS[api](manager, spec, body, deadline)
        except Exception as error:
            status = ServingError.of(error).code
            raise
        else:
            elapsed = (time.monotonic() - started) * 1e6
            metrics.observe(REQUEST_LATENCY, elapsed, model_name=spec.name, API=api, entrypoint="REST")
        finally:
            metrics.count(REQUEST_COUNT, model_name=spec.name, status=status.name)
        return text
    if method == "GET" and _NO_MODEL.fullmatch(path):
        raise invalid("Missing model name in request.")
    if method == "GET" and (match := _STATUS.fullmatch(path)):
        spec = _model_spec(match)
        return _metadata(manager, spec) if match["metadata"] else _to_json(manager.status(spec))
    raise invalid(f"Malformed request: {method} {path}")


def _model_spec(match: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:  # int() refuses thousands of digits
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(digits)
    elif match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _predict(manager: Manager, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> str:
    document = json_requests.parse(body)
    name = document.get("signature_name") or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    with manager.serving(spec) as servable:
        if name not in servable.signatures:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        inputs, rows = json_requests.predict_inputs(document, servable.signatures[name].inputs)
        outputs = inference.predict(servable, name, inputs, deadline=deadline)
    return json_responses.predictions(outputs, rows)


def _classify(manager: Manager, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> str:
    document = json_requests.parse(body)
    spec.signature_name = document.get("signature_name", "")
    request = classification_pb2.ClassificationRequest(model_spec=spec, input=json_requests.examples(document))
    with manager.serving(spec) as servable:
        response = inference.classification_response(servable, request, deadline)
    return json_responses.classifications(response.result)


def _regress(manager: Manager, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> str:
    document = json_requests.parse(body)
    spec.signature_name = document.get("signature_name", "")
    request = regression_pb2.RegressionRequest(model_spec=spec, input=json_requests.examples(document))
    with manager.serving(spec) as servable:
        response = inference.regression_response(servable, request, deadline)
    return json_responses.regressions(response.result)


_PREDICTIONS: dict[str, Callable[[Manager, model_pb2.ModelSpec, bytes, float], str]] = {
    "predict": _predict,
    "classify": _classify,
    "regress": _regress,
}


def _metadata(manager: Manager, spec: model_pb2.ModelSpec) -> str:
    with manager.serving(spec) as servable:
        answered = model_pb2.ModelSpec(name=servable.model)
        answered.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
    return (
        '{\n"model_spec":' + _to_json(answered) + ',\n"metadata": {"signature_def": ' + _to_json(signatures) + "}\n}\n"
    )


def _to_json(message) -> str:
    return json_format.MessageToJson(
        message, indent=1, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
