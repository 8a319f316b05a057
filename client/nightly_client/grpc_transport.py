"""TensorFlow Serving's gRPC services, in the row format of its REST API."""

import threading
from typing import Any

import grpc
from google.protobuf import text_format

from . import protos
from .errors import ServingError
from .spec import Spec
from .tensors import NAMES, from_tensor, to_tensor

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),  # reconnect soon to a server that was restarted
]
_STATES = {number: name for name, number in protos.enum("State").items()}


class GrpcTransport:
    def __init__(self, target: str, *, tls: bool) -> None:
        credentials = grpc.ssl_channel_credentials() if tls else None
        self._channel = (
            grpc.secure_channel(target, credentials, _OPTIONS) if tls else grpc.insecure_channel(target, _OPTIONS)
        )
        self._signatures: dict[tuple, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        self._channel.close()

    def predict(self, spec: Spec, signature: str, instances: list[Any], seconds: float) -> tuple[list[Any], int]:
        dtypes = self._inputs(spec, signature, seconds)
        request = protos.message("PredictRequest")()
        _address(request.model_spec, spec, signature)
        try:
            for name, column in _columns(instances, dtypes).items():
                request.inputs[name].CopyFrom(to_tensor(column, dtypes[name]))
        except (TypeError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from error
        try:
            response = self._call("PredictionService/Predict", request, "PredictResponse", seconds)
        except ServingError:
            with self._lock:  # a new version may have other inputs
                self._signatures.clear()
            raise
        return _rows(response.outputs, len(instances)), response.model_spec.version.value

    def classify(self, spec: Spec, signature: str, examples: list[dict], seconds: float) -> tuple[list[Any], int]:
        request = _example_request("ClassificationRequest", spec, signature, examples)
        response = self._call("PredictionService/Classify", request, "ClassificationResponse", seconds)
        results = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
        return results, response.model_spec.version.value

    def regress(self, spec: Spec, signature: str, examples: list[dict], seconds: float) -> tuple[list[Any], int]:
        request = _example_request("RegressionRequest", spec, signature, examples)
        response = self._call("PredictionService/Regress", request, "RegressionResponse", seconds)
        return [row.value for row in response.result.regressions], response.model_spec.version.value

    def metadata(self, spec: Spec, seconds: float) -> tuple[int, dict[str, Any]]:
        request = protos.message("GetModelMetadataRequest")(metadata_field=["signature_def"])
        _address(request.model_spec, spec)
        response = self._call("PredictionService/GetModelMetadata", request, "GetModelMetadataResponse", seconds)
        signature_defs = protos.message("SignatureDefMap").FromString(response.metadata["signature_def"].value)
        signatures = {
            name: {
                "method": signature.method_name,
                "inputs": {key: _tensor(info) for key, info in signature.inputs.items()},
                "outputs": {key: _tensor(info) for key, info in signature.outputs.items()},
            }
            for name, signature in signature_defs.signature_def.items()
            if not name.startswith("__saved_model")
        }
        return response.model_spec.version.value, signatures

    def status(self, spec: Spec, seconds: float) -> dict[int, tuple[str, str, str]]:
        request = protos.message("GetModelStatusRequest")()
        _address(request.model_spec, spec)
        response = self._call("ModelService/GetModelStatus", request, "GetModelStatusResponse", seconds)
        return {
            version.version: (
                _STATES.get(version.state, str(version.state)),
                version.status.error_message,
                _code(version.status.error_code) if version.status.error_code else "",
            )
            for version in response.model_version_status
        }

    def reload_config(self, config: Any, seconds: float) -> None:
        if isinstance(config, str):
            config = text_format.Parse(config, protos.message("ModelServerConfig")())
        request = protos.message("ReloadConfigRequest")(config=config.SerializeToString())
        response = self._call("ModelService/HandleReloadConfigRequest", request, "ReloadConfigResponse", seconds)
        if response.status.error_code:
            raise ServingError(_code(response.status.error_code), response.status.error_message)

    def _inputs(self, spec: Spec, signature: str, seconds: float) -> dict[str, str]:
        """Return input -> data type, from the server: a Python number does not determine it (such as DT_FLOAT)."""
        with self._lock:
            known = self._signatures.get((spec, signature))
        if known is None:
            _, signatures = self.metadata(spec, seconds)
            if signature not in signatures:
                names = ", ".join(sorted(signatures))
                raise ServingError("INVALID_ARGUMENT", f"{spec.model} has no signature {signature!r}; it has {names}")
            known = {name: info["dtype"] for name, info in signatures[signature]["inputs"].items()}
            with self._lock:
                self._signatures[spec, signature] = known
        return known

    def _call(self, method: str, request: Any, response: str, seconds: float) -> Any:
        call = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=protos.message(response).FromString,
        )
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            raise ServingError(error.code().name, error.details() or "") from None


def _code(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), str(number))


def _address(model_spec: Any, spec: Spec, signature: str = "") -> None:
    model_spec.name, model_spec.signature_name = spec.model, signature
    if spec.version is not None:
        model_spec.version.value = spec.version
    elif spec.label is not None:
        model_spec.version_label = spec.label


def _example_request(name: str, spec: Spec, signature: str, examples: list[dict]) -> Any:
    request = protos.message(name)()
    _address(request.model_spec, spec, signature)
    try:
        request.input.example_list.examples.extend(protos.example(features) for features in examples)
    except TypeError as error:
        raise ServingError("INVALID_ARGUMENT", str(error)) from error
    return request


def _columns(instances: list[Any], dtypes: dict[str, str]) -> dict[str, list[Any]]:
    """Return input -> column, from rows. Raises ValueError."""
    if not instances:
        raise ValueError("no instances were given")
    if not isinstance(instances[0], dict):
        if len(dtypes) != 1:
            raise ValueError(f"each instance must be a dict by input: {', '.join(sorted(dtypes))}")
        return {next(iter(dtypes)): instances}
    if any(not isinstance(row, dict) or row.keys() != dtypes.keys() for row in instances):
        raise ValueError(f"each instance must have exactly the inputs {', '.join(sorted(dtypes))}")
    return {name: [row[name] for row in instances] for name in dtypes}


def _rows(outputs: Any, count: int) -> list[Any]:
    """Return a value for each row, or a dict by output if there are several."""
    columns = {}
    for name, tensor in outputs.items():
        values = from_tensor(tensor)
        if not isinstance(values, list) or len(values) != count:
            raise ServingError("FAILED_PRECONDITION", f"output {name} has not one value for each of the {count} rows")
        # As over REST, only an output whose name ends with _bytes has bytes.
        columns[name] = values if name.endswith("_bytes") else _text(values)
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(inner) for inner in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _tensor(info: Any) -> dict[str, Any]:
    shape = info.tensor_shape
    return {
        "dtype": NAMES.get(info.dtype, str(info.dtype)),
        "shape": None if shape.unknown_rank else [dim.size for dim in shape.dim],
    }
