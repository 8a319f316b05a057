"""The gRPC services PredictionService and ModelService, on the stubs of tensorflow-serving-api."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from nightly_server import inference, limits, memory
from nightly_server.errors import ServingError, invalid
from nightly_server.manager import Manager
from nightly_server.monitoring import REQUEST_COUNT, REQUEST_LATENCY, Metrics

log = logging.getLogger(__name__)


def register(server: grpc.Server, manager: Manager, metrics: Metrics) -> None:
    """Add both services to `server`."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(manager, metrics), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(manager), server)


class FreesMemory(grpc.ServerInterceptor):
    """Returns the memory of large messages to the operating system after their calls."""

    def intercept_service(self, continuation: Callable, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def deserialize(message: bytes):
            request = handler.request_deserializer(message)
            large = len(message) > limits.LARGE_BODY_BYTES
            return request, large

        def answer(request_and_size, context):
            request, large = request_and_size
            if large:
                context.add_callback(memory.release_soon)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)


@contextmanager
def _aborting(context: grpc.ServicerContext) -> Iterator[None]:
    """Abort the call with the code and text of an exception raised within."""
    try:
        yield
    except Exception as error:
        failure = ServingError.of(error)
        if failure.code is grpc.StatusCode.INTERNAL:
            log.exception("a call failed")
        context.abort(failure.code, limits.excerpt(failure.message, limits.MAX_ERROR_BYTES))


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: Manager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics

    def Predict(self, request, context) -> predict_pb2.PredictResponse:
        return self._answer(context, "Predict", request, request, inference.predict_response)

    def Classify(self, request, context) -> classification_pb2.ClassificationResponse:
        return self._answer(context, "Classify", request, request, inference.classification_response)

    def Regress(self, request, context) -> regression_pb2.RegressionResponse:
        return self._answer(context, "Regress", request, request, inference.regression_response)

    def MultiInference(self, request, context) -> inference_pb2.MultiInferenceResponse:
        first = request.tasks[0] if request.tasks else inference_pb2.InferenceTask()
        return self._answer(context, "MultiInference", first, request, inference.multi_inference_response)

    def GetModelMetadata(self, request, context) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with _aborting(context):
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            with self._manager.serving(request.model_spec) as servable:
                spec = model_pb2.ModelSpec(name=servable.model)
                spec.version.value = servable.version
                signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
            response.metadata["signature_def"].Pack(signatures)
            return response

    def _answer(self, context, api: str, addressed, request, infer: Callable):
        """Return the response of `infer` to `request`; `addressed` is the message with the ModelSpec."""
        started, name, status = time.monotonic(), addressed.model_spec.name, grpc.StatusCode.OK
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else started + remaining
        with _aborting(context):
            try:
                if not addressed.HasField("model_spec"):
                    raise invalid("Missing ModelSpec")
                with self._manager.serving(addressed.model_spec) as servable:
                    response = infer(servable, request, deadline)
            except Exception as error:
                status = ServingError.of(error).code
                raise
            else:
                elapsed = (time.monotonic() - started) * 1e6
                self._metrics.observe(REQUEST_LATENCY, elapsed, model_name=name, API=api, entrypoint="GRPC")
            finally:
                self._metrics.count(REQUEST_COUNT, model_name=name, status=status.name)
            return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def GetModelStatus(self, request, context) -> get_model_status_pb2.GetModelStatusResponse:
        with _aborting(context):
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            return self._manager.status(request.model_spec)

    def HandleReloadConfigRequest(self, request, context) -> model_management_pb2.ReloadConfigResponse:
        """Replace the whole configuration until the next reload, without writing the configuration file."""
        with _aborting(context):
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            self._manager.reload(request.config)
            response = model_management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            return response
