"""The REST API: formats, error texts and codes as TensorFlow Serving's."""

import base64
import gzip
import zlib

import pytest
import requests

pytestmark = pytest.mark.integration


def error(response) -> tuple[int, str]:
    assert response.headers["Content-Type"].startswith("application/json")
    return response.status_code, response.json()["error"]


def test_predict_in_rows_and_in_columns(server):
    rows = server.post("half_plus_two:predict", {"instances": [2.0, 3.0, 4]})
    assert rows.text == '{\n    "predictions": [3.0, 3.5, 4.0\n    ]\n}'
    columns = server.post("half_plus_two:predict", {"inputs": [2.0, 3.0]})
    assert columns.text == '{\n    "outputs": [\n        3.0,\n        3.5\n    ]\n}'
    matrix = server.post("half_plus_two/versions/123:predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]})
    assert matrix.json() == {"predictions": [[2.5, 3.0], [3.5, 4.0]]}
    scalar = server.post("half_plus_two:predict", {"signature_name": "serving_default", "inputs": 5.0})
    assert scalar.json() == {"outputs": 4.5}


def test_classify_and_regress(server):
    classify = server.post("half_plus_two:classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]})
    assert classify.json() == {"results": [[["", 3.0]]]}
    labels = server.post(
        "half_plus_two:classify", {"signature_name": "classify_labels", "examples": [{"x": [2.0]}, {"x": 4.0}]}
    )
    assert labels.json() == {"results": [[["even", 3.0]], [["even", 4.0]]]}
    regress = server.post("half_plus_two:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]})
    assert regress.text == '{\n    "results": [3.0]\n}'
    context = {"signature_name": "regress_x2_to_y3", "context": {"x": 0.0}, "examples": [{"x2": 2.0}, {"x2": 4.0}]}
    assert server.post("half_plus_two:regress", context).json() == {"results": [4.0, 5.0]}
    native = server.post("shapes:regress", {"signature_name": "regress", "examples": [{"x": 1.5}]})
    assert native.json() == {"results": [4.5]}  # TF2 exports carry the predict method name


def test_several_inputs_and_outputs(server):
    instances = [{"matrix": [1, 2.5], "count": 3, "word": "a"}, {"matrix": [0, 0.1], "count": -1, "word": "é"}]
    rows = server.post("shapes:predict", {"instances": instances}).json()
    assert rows == {"predictions": [{"sums": 3.5, "next": 4, "words": "A"}, {"sums": 0.1, "next": 0, "words": "é"}]}
    inputs = {"matrix": [[1, 2.5]], "count": [3], "word": ["a"]}
    columns = server.post("shapes:predict", {"inputs": inputs}).json()
    assert columns == {"outputs": {"sums": [3.5], "next": [4], "words": ["A"]}}


def test_binary_values_are_base64(server):
    image = {"b64": base64.b64encode(b"\x00\xff").decode()}
    twice = {"b64": base64.b64encode(b"\x00\xff\x00\xff").decode()}
    for body, answer in (
        ({"instances": [image]}, {"predictions": [twice]}),
        ({"instances": [{"image": image}]}, {"predictions": [twice]}),
        ({"inputs": [image]}, {"outputs": [twice]}),
    ):
        assert server.post("shapes:predict", {"signature_name": "twice", **body}).json() == answer
    wrong = server.post("shapes:predict", {"signature_name": "twice", "inputs": [{"b64": "*"}]})
    assert error(wrong) == (400, "Unable to base64 decode")


def test_numbers_that_json_does_not_know(server):
    response = server.post("half_plus_two:predict", data=b'{"instances": [NaN, Infinity, -Infinity, 1e-5]}')
    assert response.text == '{\n    "predictions": [NaN, Infinity, -Infinity, 2.00000501\n    ]\n}'


def test_status(server):
    available = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.get("v1/models/half_plus_two").json() == {"model_version_status": [available]}
    assert server.get("v1/models/half_plus_two/versions/123").json() == {"model_version_status": [available]}
    assert error(server.get("v1/models/none")) == (404, "Could not find any versions of model none")
    missing = server.get("v1/models/half_plus_two/versions/9")
    assert error(missing) == (404, "Could not find version 9 of model half_plus_two")


def test_metadata(server):
    metadata = server.get("v1/models/half_plus_two/metadata").json()
    assert metadata["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signatures["classify_labels"]["method_name"] == "tensorflow/serving/classify"
    shape = server.get("v1/models/shapes/versions/1/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert shape["serving_default"]["inputs"]["matrix"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("foo:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(foo)"),
        ("foo/versions/50:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(foo, 50)"),
        ("half_plus_two/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
        (
            "half_plus_two/version/1:predict",
            {},
            400,
            "Malformed request: POST /v1/models/half_plus_two/version/1:predict",
        ),
        (
            f"foo/versions/{2**64 - 1}:regress",
            {},
            400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("half_plus_two:predict", b"", 400, "JSON Parse error: The document is empty"),
        ("half_plus_two:predict", b"x = [1]", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ("half_plus_two:predict", [1], 400, "JSON Value: [\n    1\n] Is not object"),
        ("half_plus_two:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            "half_plus_two:predict",
            {"instances": ["x"]},
            400,
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\" Type: String "
            "is not of expected type: float",
        ),
        (
            "half_plus_two:predict",
            {"instances": [[1, 2], [3]]},
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but "
            "got: 1",
        ),
        (
            "half_plus_two:predict",
            {"inputs": [[1, 2], [3]]},
            400,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            "half_plus_two:predict",
            {"inputs": [1e39]},
            400,
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
        ),
        (
            "half_plus_two:predict",
            b'{"inputs": [' + b"9" * 5000 + b"]}",
            400,
            "JSON Parse error: Number too big to be stored in double. at offset: 12",
        ),
        (
            "half_plus_two:regress",
            b'{"signature_name": "regress_x_to_y", "examples": [{"x": -' + b"9" * 5000 + b"}]}",
            400,
            "JSON Parse error: Number too big to be stored in double. at offset: 56",
        ),
        (
            "half_plus_two:predict",
            b'{"inputs": [1e400]}',
            400,
            "JSON Parse error: Number too big to be stored in double. at offset: 12",
        ),
        (
            f"half_plus_two/versions/{'9' * 5000}:predict",
            {"inputs": [1]},
            400,
            f"Failed to convert version: {'9' * 253}… to numeric.",
        ),
        (
            "half_plus_two:predict",
            b'{"inputs": ' + b"[" * 65 + b"]" * 65 + b"}",
            400,
            "JSON Value: nested 65 levels deep. Tensors have at most 64 dimensions.",
        ),
        (
            "half_plus_two:predict",
            b'{"instances": ' + b"[" * 65 + b"NaN" + b"]" * 65 + b"}",
            400,
            "JSON Value: nested 65 levels deep. Tensors have at most 64 dimensions.",
        ),
        (
            "half_plus_two:predict",
            b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            400,
            "JSON Parse error: The document is nested too deeply",
        ),
        (
            "half_plus_two:predict",
            {"signature_name": "no", "instances": [1]},
            400,
            'Serving signature name: "no" not found in signature def',
        ),
        (
            "shapes:predict",
            {"inputs": {"count": [1], "word": ["a"]}},
            400,
            "Missing named input: matrix in 'inputs' object.",
        ),
        (
            "shapes:predict",
            {"instances": [1]},
            400,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            "half_plus_two:regress",
            {"signature_name": "no", "examples": [{"x": 1.0}]},
            400,
            "No signature was found with the name: no",
        ),
        (
            "half_plus_two:classify",
            {"signature_name": "classify_x_to_y", "examples": [{"x": [1.0, "a"]}]},
            400,
            "Unexpected element type in feature: x expecting type: float",
        ),
    ],
)
def test_errors(server, path, body, status, text):
    response = server.post(path, data=body) if isinstance(body, bytes) else server.post(path, body)
    assert error(response) == (status, text)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("shapes:predict", '{"signature_name": "twice", "instances": ["?"]}'),
        ("shapes:predict", '{"signature_name": "twice", "instances": [{"b64": "?"}]}'),
        ("half_plus_two:predict", '{"signature_name": "?", "instances": [1]}'),
        ("half_plus_two:predict", '{"instances": ["?"]}'),
        ("half_plus_two:predict", '{"instances": [{"?": 1}]}'),
        ("half_plus_two:classify", '{"signature_name": "?", "examples": [{"x": 1.0}]}'),
        ("half_plus_two:classify", '{"signature_name": "classify_x_to_y", "examples": [{"x": ["a", "?"]}]}'),
        ("half_plus_two:regress", '{"signature_name": "regress_x_to_y", "examples": [{"?": 1.0}]}'),
        ("half_plus_two:regress", '{"signature_name": "regress_x_to_y", "context": {"?": 1.0}, "examples": [{}]}'),
    ],
)
@pytest.mark.parametrize("escape", [r"\ud800", r"\uDFFF", r"\ud800\u0041", r"\\\ud83d"])
def test_a_surrogate_that_stands_alone(server, path, body, escape):
    offset = body.index("?") + escape.lower().index(r"\ud")
    response = server.post(path, data=body.replace("?", escape).encode())
    assert error(response) == (400, f"JSON Parse error: The surrogate pair in string is invalid. at offset: {offset}")


@pytest.mark.parametrize("depth", [100, 990, 1020, 1030])
def test_a_nested_document_that_is_quoted_in_the_error(server, depth):
    for start, end in ((b"[", b"]"), (b'{"a":', b"}")):
        assert error(server.post("half_plus_two:predict", data=start * depth + b"1" + end * depth))[0] == 400
        instance = b'{"instances": [{"x": 1.0}, {"y": ' + start * depth + b"1" + end * depth + b"}]}"
        assert error(server.post("half_plus_two:predict", data=instance))[0] == 400


def test_surrogates_that_belong_together(server):
    body = rb'{"signature_name": "first", "inputs": ["\ud83d\ude00 \\ud83d"], "unused": NaN}'
    assert server.post("shapes:predict", data=body).json() == {"outputs": "😀 \\ud83d"}
    raw = server.post("shapes:predict", data=b'{"signature_name": "first", "inputs": ["\xed\xa0\x80"]}')
    assert error(raw)[0] == 400


def test_integers_are_rounded_to_the_digits_of_a_float(server):
    rounded = server.post("half_plus_two:predict", {"inputs": [2**24 + 1, 1435774380, -(2**53) - 1, 10**30]}).json()
    assert rounded == {"outputs": [8388610.0, 717887168.0, -4503599630000000.0, 5e29]}
    examples = {"signature_name": "regress_x_to_y", "examples": [{"x": 16777217.0}]}
    assert server.post("half_plus_two:regress", examples).json() == {"results": [8388610.0]}


def test_a_string_without_dimensions(server):
    words = {"signature_name": "first", "inputs": ["é", "b"]}
    assert server.post("shapes:predict", words).text == '{\n    "outputs": "é"\n}'
    rows = server.post("shapes:predict", {"signature_name": "first", "instances": ["é", "b"]})
    assert error(rows) == (400, "Tensor name: word has no shape information ")  # a row needs a batch


GOOD = b'{"instances": [2.0]}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(GOOD, mtime=0)),
        ("GZIP", gzip.compress(GOOD, mtime=0)),
        ("deflate", zlib.compress(GOOD)),
        ("deflate", zlib.compress(GOOD, wbits=-15)),
        ("identity", GOOD),
    ],
)
def test_compressed_bodies(server, encoding, body):
    url = f"{server.url}/v1/models/half_plus_two:predict"
    response = requests.post(url, data=body, headers={"Content-Encoding": encoding}, timeout=30)
    assert response.json() == {"predictions": [3.0]}


@pytest.mark.parametrize(
    ("encoding", "body", "problem"),
    [
        ("gzip", GOOD, "Error -3 while decompressing data: incorrect header check"),
        ("gzip", gzip.compress(GOOD, mtime=0)[:-1], "it ends too early"),
        ("gzip", gzip.compress(GOOD, mtime=0) + b"x", "it goes on after its end"),
        ("gzip", zlib.compress(GOOD), "Error -3 while decompressing data: incorrect header check"),
        ("deflate", GOOD, "Error -3 while decompressing data: invalid distance too far back"),
        ("deflate", zlib.compress(GOOD)[:-5], "it ends too early"),
        ("deflate", zlib.compress(GOOD) + b"x", "it goes on after its end"),
    ],
)
def test_bodies_that_are_not_compressed_as_they_say(server, encoding, body, problem):
    url = f"{server.url}/v1/models/half_plus_two:predict"
    response = requests.post(url, data=body, headers={"Content-Encoding": encoding}, timeout=30)
    assert error(response) == (400, f"The body is not {encoding}, as its Content-Encoding says: {problem}")


def test_an_encoding_that_is_not_supported(server):
    url = f"{server.url}/v1/models/half_plus_two:predict"
    response = requests.post(url, data=GOOD, headers={"Content-Encoding": "br"}, timeout=30)
    assert error(response) == (
        400,
        "Content-Encoding br is not supported: send the body as gzip, as deflate or as it is",
    )


def test_errors_of_paths(server):
    assert error(server.get("v1/models")) == (400, "Missing model name in request.")
    assert error(server.get("v1/foo")) == (400, "Malformed request: GET /v1/foo")
    assert error(server.get("v1/models/x:predict")) == (400, "Malformed request: GET /v1/models/x:predict")
    assert server.get("elsewhere").status_code == 404


def test_an_error_of_tensorflow_keeps_its_code(server):
    example = {"signature_name": "regress_x_to_y", "examples": [{"x": 1}]}
    status, text = error(server.post("half_plus_two:regress", example))
    assert status == 400
    assert "Data types don't match. Data type: int64 but expected type: float" in text


def test_metrics(server):
    server.post("half_plus_two:predict", {"instances": [1.0]})
    server.post("metered:predict", {"instances": [1.0]})
    page = server.get("metrics")
    assert page.headers["Content-Type"].startswith("text/plain")
    lines = page.text.splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="metered",status="NOT_FOUND"} 1' in lines
    latency = (
        ':tensorflow:serving:request_latency_bucket{model_name="half_plus_two",API="predict",entrypoint="REST",le='
    )
    assert any(line.startswith(latency + '"32.4"') for line in lines)
    assert any(
        line.startswith(':tensorflow:serving:runtime_latency_count{model_name="half_plus_two"') for line in lines
    )
    assert any(line.startswith(":tensorflow:cc:saved_model:load_attempt_count{") for line in lines)


@pytest.mark.slow
def test_large_bodies(server):
    rows = [[float(i), i + 0.25] for i in range(200_000)]
    predictions = server.post("half_plus_two:predict", {"instances": rows}).json()["predictions"]
    assert len(predictions) == 200_000
    assert predictions[-1] == [100_001.5, 100_001.625]
