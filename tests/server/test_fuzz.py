"""Random requests, most of them wrong: the server refuses them as the client's fault, never hangs, and goes on serving.

The seed is fixed. More of them, by hand:

    FUZZ_REQUESTS=20000 FUZZ_SEED=7 .venv/ml/bin/python -m pytest tests/server/test_fuzz.py
"""

import gzip
import json
import os
import random
import socket
import zlib
from collections.abc import Callable
from urllib.parse import quote

import grpc
import pytest
import requests
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

pytestmark = pytest.mark.integration

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", 400))
SEED = int(os.environ.get("FUZZ_SEED", 20260101))
TIMEOUT_SECONDS = 30
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}

MODELS = ["half_plus_two", "shapes", "half_plus_two", "none", "", "\0", "é"]
SIGNATURES = [
    "serving_default", "classify_x_to_y", "classify_labels", "regress_x_to_y", "regress_x2_to_y3",
    "twice", "length", "first", "optional", "regress", "classify", "none", "",
]  # fmt: skip
NAMES = ["x", "inputs", "matrix", "count", "word", "words", "image", "rows", "value", "b64", "", "é", "\0"]
VERSIONS = ["123", "1", "0", "00123", "-1", "9" * 19, "9" * 25, "9" * 4400, "x", "٣"]
ATOMS = [
    "0", "1", "-1", "2.5", "-0", "1e39", "-1e39", "1e308", "1e309", "NaN", "Infinity", "-Infinity", "9" * 400,
    "9" * 4400, str(2**24 + 1), str(2**31), str(2**63), str(-(2**63) - 1), str(2**64), "null", "true", "false", "[]",
    "[[]]", "{}", '"a"', '""', '"é"', r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', r'"\u0000"', r'"\x"', '"\x01"',
    '{"b64": "YQ=="}', '{"b64": "Y"}', '{"b64": "*"}', '{"b64": 1}', '{"b64": "YQ==", "x": 1}', r'{"b64": "\ud800"}',
    "nul", "01", "[", "}",
]  # fmt: skip
DEPTHS = [2, 63, 64, 65, 66, 254, 255, 900, 990, 1023, 1024, 1025, 5000]
SIZES = [0, 1, 1, 1, 2, 2, 3, -1, -(2**63), 2**31, 10**12, 2**62, 2**63 - 1]


@pytest.fixture
def healthy(server):
    """Nothing that was sent is a fault of the server, which answers a good request afterwards."""
    yield server
    good = server.post("half_plus_two:predict", {"instances": [2.0]})
    assert good.json() == {"predictions": [3.0]}
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
    assert list(server.predictions.Predict(request, timeout=TIMEOUT_SECONDS).outputs["y"].float_val) == [3.0]


def value(chance: random.Random, depth: int = 0) -> str:
    """A JSON value, or nearly."""
    kind = chance.random()
    if depth > 3 or kind < 0.5:
        return chance.choice(ATOMS)
    if kind < 0.55:
        levels = chance.choice(DEPTHS)
        return "[" * levels + chance.choice(ATOMS) + "]" * levels
    if kind < 0.6:
        levels = chance.choice(DEPTHS)
        return '{"x":' * levels + chance.choice(ATOMS) + "}" * levels
    if kind < 0.85:
        return "[" + ",".join(value(chance, depth + 1) for _ in range(chance.choice([0, 1, 1, 2, 3, 50]))) + "]"
    return (
        "{" + ",".join(f"{member(chance)}: {value(chance, depth + 1)}" for _ in range(chance.choice([0, 1, 2]))) + "}"
    )


def member(chance: random.Random) -> str:
    return chance.choice([json.dumps(chance.choice(NAMES)), json.dumps(chance.choice(NAMES)), r'"\ud800"'])


def document(chance: random.Random) -> bytes:
    members = []
    if chance.random() < 0.8:
        name = json.dumps(chance.choice(SIGNATURES))
        members.append(f'"signature_name": {name if chance.random() < 0.95 else value(chance)}')
    for key in chance.choice(
        [["instances"], ["inputs"], ["examples"], ["context", "examples"], ["inputs", "instances"]]
    ):
        content = value(chance) if chance.random() < 0.5 else f"[{value(chance)}, {value(chance)}]"
        if chance.random() < 0.6:
            content = f'[{{"x": {content}}}]' if key in ("examples", "instances") else f'{{"x": {content}}}'
        members.append(f'"{key}": {content}')
    return ("{" + ", ".join(members) + "}").encode(errors="surrogatepass")


def mutated(chance: random.Random, body: bytes) -> bytes:
    """With up to two bytes changed, cut out or put in."""
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        at = chance.randrange(len(body) + 1)
        piece = chance.choice([b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"\\", b"[", b"]", b"NaN"])
        body = body[:at] + piece + body[at + chance.choice([0, 1, 5]) :]
    return body


def encoded(chance: random.Random, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Compressed or not, and said so or not."""
    body = chance.choice([bytes, bytes, bytes, gzip.compress, zlib.compress])(body)
    if chance.random() < 0.2:
        body = mutated(chance, body[: chance.randrange(len(body) + 1)])
    encoding = chance.choice(["", "", "", "gzip", "deflate", "identity", "br", "zstd", "gzip, gzip", "é", "x" * 500])
    return body, {"Content-Encoding": encoding.encode()} if encoding else {}


def address(chance: random.Random) -> str:
    path = quote(chance.choice(MODELS), safe="")
    if chance.random() < 0.2:
        path += f"/versions/{quote(chance.choice(VERSIONS))}"
    elif chance.random() < 0.1:
        path += f"/labels/{chance.choice(['stable', '%FF', '%ED%A0%80', '%00', '%', '%zz', quote('é')])}"
    return path + chance.choice([":predict", ":predict", ":predict", ":classify", ":regress", "", "/metadata", ":x"])


@pytest.mark.slow
def test_rest_requests(healthy):
    chance, session = random.Random(SEED), requests.Session()
    for number in range(REQUESTS):
        path = address(chance)
        body, headers = encoded(chance, mutated(chance, document(chance)))
        method = chance.choice(["POST"] * 8 + ["GET", "PUT"])
        url = f"{healthy.url}/v1/models/{path}"
        response = session.request(method, url, data=body, headers=headers, timeout=TIMEOUT_SECONDS)
        what = f"request {number}: {method} {path[:200]} {headers} {body[:2000]!r}: {response.text[:2000]}"
        assert response.status_code < 500 or response.status_code == 501, what
        if response.status_code != 200 or method == "GET":
            assert response.json().keys() & {"error", "model_version_status", "metadata"}, what


def test_paths_of_any_bytes(healthy):
    """As no HTTP library sends them."""
    chance = random.Random(SEED)
    host, port = healthy.url.removeprefix("http://").split(":")
    for _ in range(REQUESTS // 10):
        junk = bytes(chance.choice(b'/:%\xff\xed\xa0\x80\xc3\xa9?#a0[]@\\"\x7f') for _ in range(chance.randrange(12)))
        path = chance.choice([b"/v1/models/", b"/v1/models/half_plus_two", b"/v1/", b"/", b""]) + junk
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(b"POST " + path + b":predict HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
            status = connection.recv(1000).split(b" ")[1]
        assert status[:1] == b"4", (path, status)


def tensor(chance: random.Random) -> tensor_pb2.TensorProto:
    """Mostly of a type that there is; its values need not be of this type, nor fit the shape."""
    proto = tensor_pb2.TensorProto(dtype=chance.choice([1, 1, 1, 7, 7, 9, 3, *range(35), 101, 120, 121, 999, -1]))
    for _ in range(chance.choice([0, 1, 1, 1, 2, 2, 3, 64, 65, 255])):
        proto.tensor_shape.dim.add(size=chance.choice(SIZES) if chance.random() < 0.4 else 1)
    proto.tensor_shape.unknown_rank = chance.random() < 0.05
    if chance.random() < 0.3:
        proto.tensor_content = chance.randbytes(chance.choice([1, 4, 8, 12]))
    count = chance.choice([0, 1, 1, 2, 5])
    values = {
        "float_val": float("nan"), "double_val": 1e300, "int_val": 2**31 - 1, "int64_val": -(2**63), "bool_val": True,
        "string_val": b"\xff", "half_val": 2**17, "uint32_val": 2**32 - 1, "uint64_val": 2**64 - 1, "scomplex_val": 1.0,
        "dcomplex_val": 1.0, "float8_val": b"\x01",
    }  # fmt: skip
    for field in chance.sample(sorted(values), 3):
        if field == "float8_val":
            proto.float8_val = values[field] * count
        else:
            getattr(proto, field).extend([values[field]] * count)
    if proto.dtype in (20, 21) and count:
        proto.resource_handle_val.add(name="r")
        proto.variant_val.add(type_name="v", metadata=b"\xff")
    return proto


def fill_spec(chance: random.Random, spec) -> None:
    spec.name = chance.choice(MODELS)
    spec.signature_name = chance.choice(SIGNATURES)
    if chance.random() < 0.1:
        spec.version.value = chance.choice([123, 1, 0, -1, 2**63 - 1])
    elif chance.random() < 0.05:
        spec.version_label = chance.choice(["stable", "", "\0"])


def fill_input(chance: random.Random, source) -> None:
    examples = chance.choice([source.example_list, source.example_list_with_context]).examples
    for _ in range(chance.choice([0, 1, 1, 3])):
        feature = examples.add().features.feature[chance.choice(NAMES)]
        kind = chance.choice(["float", "bytes", "int64"])
        values = {"float": [1.0, float("nan")], "bytes": [b"\xff", b""], "int64": [-(2**63), 1]}[kind]
        getattr(feature, f"{kind}_list").value.extend(values[: chance.choice([0, 1, 1, 2])])


def rpc(chance: random.Random, server) -> tuple[Callable, object]:
    kind = chance.choice(["predict"] * 6 + ["classify", "regress", "multi", "metadata", "status"])
    if kind == "predict":
        request = predict_pb2.PredictRequest()
        for _ in range(chance.choice([0, 1, 1, 1, 3])):
            request.inputs[chance.choice(NAMES)].CopyFrom(tensor(chance))
        request.output_filter.extend(chance.choice([[], [], [], ["y"], ["y", "y"], [""]]))
        call = server.predictions.Predict
    elif kind in ("classify", "regress"):
        request, call = {
            "classify": (classification_pb2.ClassificationRequest(), server.predictions.Classify),
            "regress": (regression_pb2.RegressionRequest(), server.predictions.Regress),
        }[kind]
        fill_input(chance, request.input)
    elif kind == "multi":
        request, call = inference_pb2.MultiInferenceRequest(), server.predictions.MultiInference
        for _ in range(chance.choice([0, 1, 2, 3])):
            task = request.tasks.add(method_name=f"tensorflow/serving/{chance.choice(['classify', 'regress', 'x'])}")
            fill_spec(chance, task.model_spec)
        fill_input(chance, request.input)
        return call, request
    elif kind == "metadata":
        request, call = get_model_metadata_pb2.GetModelMetadataRequest(), server.predictions.GetModelMetadata
        request.metadata_field.extend(chance.choice([[], ["signature_def"], ["signature_def", "x"]]))
    else:
        request, call = get_model_status_pb2.GetModelStatusRequest(), server.models.GetModelStatus
    if chance.random() < 0.95:
        fill_spec(chance, request.model_spec)
    return call, request


def refused_fairly(call: Callable, request) -> None:
    try:
        call(request, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        what = text_format.MessageToString(request, as_one_line=True)[:2000]
        assert error.code() not in FAULTS, f"{error.code()} {error.details()[:2000]}: {what}"


def test_grpc_requests(healthy):
    chance = random.Random(SEED)
    for _ in range(REQUESTS):
        refused_fairly(*rpc(chance, healthy))


def test_configurations(healthy, base, tmp_path):
    """Models whose versions do not load are UNKNOWN, as with TensorFlow Serving; none of these has any."""
    chance = random.Random(SEED)
    paths = [str(tmp_path), "/", "relative", "", "/\0", f"/{'a' * 5000}", "/dev/null", "file://x", "x://y", "é"]
    for _ in range(REQUESTS // 10):
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse("model_config_list { " + "\n".join(base) + " }", request.config)
        for _ in range(chance.choice([1, 1, 2])):
            model = request.config.model_config_list.config.add(
                name=chance.choice(["m", "n", "", "\0", "half_plus_two"]),
                base_path=chance.choice(paths),
                model_platform=chance.choice(["tensorflow", "tensorflow", "", "other"]),
            )
            if chance.random() < 0.3:
                model.version_labels[chance.choice(["stable", ""])] = chance.choice([1, -1, 2**63 - 1])
            if chance.random() < 0.3:
                model.model_version_policy.specific.versions.extend([-1, 0, 2**63 - 1])
        if chance.random() < 0.1:
            request.config.custom_model_config.type_url = "x"
        refused_fairly(healthy.models.HandleReloadConfigRequest, request)
    healthy.reload("model_config_list { " + "\n".join(base) + " }")
