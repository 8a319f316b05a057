"""TensorFlow Serving's REST API."""

import base64
import json
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from .errors import ServingError
from .spec import Spec

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestTransport:
    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=64))

    def close(self) -> None:
        self._session.close()

    def predict(self, spec: Spec, signature: str, instances: list[Any], seconds: float) -> tuple[list[Any], None]:
        body = {"signature_name": signature, "instances": [_encoded(instance) for instance in instances]}
        return [_decoded(value) for value in self._ask(spec, "predict", body, seconds)["predictions"]], None

    def classify(self, spec: Spec, signature: str, examples: list[dict], seconds: float) -> tuple[list[Any], None]:
        results = self._ask(spec, "classify", _examples(signature, examples), seconds)["results"]
        return [[(label, score) for label, score in classes] for classes in results], None

    def regress(self, spec: Spec, signature: str, examples: list[dict], seconds: float) -> tuple[list[Any], None]:
        return self._ask(spec, "regress", _examples(signature, examples), seconds)["results"], None

    def metadata(self, spec: Spec, seconds: float) -> tuple[int, dict[str, Any]]:
        response = self._call("GET", f"{_path(spec)}/metadata", None, seconds)
        signatures = {
            name: {
                "method": signature["method_name"],
                "inputs": {key: _tensor(info) for key, info in signature["inputs"].items()},
                "outputs": {key: _tensor(info) for key, info in signature["outputs"].items()},
            }
            for name, signature in response["metadata"]["signature_def"]["signature_def"].items()
            if not name.startswith("__saved_model")  # a TF2 export's own bookkeeping
        }
        return int(response["model_spec"]["version"]), signatures

    def status(self, spec: Spec, seconds: float) -> dict[int, tuple[str, str, str]]:
        statuses = {}
        for version in self._call("GET", _path(spec), None, seconds)["model_version_status"]:
            status = version.get("status", {})
            code = status.get("error_code", "OK")
            error = status.get("error_message", ""), "" if code == "OK" else code
            statuses[int(version["version"])] = (version["state"], *error)
        return statuses

    def reload_config(self, config: Any, seconds: float) -> None:
        raise ServingError("UNIMPLEMENTED", "a configuration is reloaded over gRPC: use a grpc:// address")

    def _ask(self, spec: Spec, method: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        return self._call("POST", f"{_path(spec)}:{method}", body, seconds)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()  # writes NaN and Infinity, which the server accepts
        try:
            response = self._session.request(
                method, self._url + path, data=data, timeout=seconds, headers={"Content-Type": "application/json"}
            )
        except requests.ReadTimeout:
            raise ServingError("DEADLINE_EXCEEDED", f"{self._url}{path} did not answer in {seconds:.1f} s") from None
        except requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"{self._url} was not reached: {error}") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.ok and isinstance(answer, dict):
            return answer
        text = answer.get("error") if isinstance(answer, dict) else response.text[:200]
        code = "UNKNOWN" if response.ok else _CODES.get(response.status_code, "INTERNAL")
        raise ServingError(code, f"{text or f'HTTP {response.status_code}'}")


def _path(spec: Spec) -> str:
    path = f"/v1/models/{quote(spec.model, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return f"{path}/labels/{quote(spec.label, safe='')}" if spec.label is not None else path


def _examples(signature: str, examples: list[dict]) -> dict[str, Any]:
    present = [{k: _encoded(v) for k, v in example.items() if v is not None} for example in examples]
    return {"examples": present} | ({"signature_name": signature} if signature else {})


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _encoded(inner) for key, inner in value.items()}
    return [_encoded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"b64"}:
            return base64.b64decode(value["b64"])
        return {key: _decoded(inner) for key, inner in value.items()}
    return [_decoded(inner) for inner in value] if isinstance(value, list) else value


def _tensor(info: dict[str, Any]) -> dict[str, Any]:
    shape = info.get("tensor_shape", {})
    dims = None if shape.get("unknown_rank") else [int(dim["size"]) for dim in shape.get("dim", [])]
    return {"dtype": info["dtype"], "shape": dims}
