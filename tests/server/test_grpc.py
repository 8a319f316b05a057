"""PredictionService and ModelService with the real stubs: the scenarios of TensorFlow Serving's own end-to-end test."""

import grpc
import pytest
import tensorflow as tf
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


def predict_request(model: str = "half_plus_two", **inputs: object) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(
            value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        )
    return request


def example_request(kind, signature: str, x: float):
    request = kind()
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(x)
    return request


def failure(call, request) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value.code(), caught.value.details()


def spec_of(response) -> tuple[str, str, int]:
    spec = response.model_spec
    return spec.name, spec.signature_name, spec.version.value


def test_predict(server):
    request = predict_request(x=[2.0])
    request.output_filter.append("y")
    response = server.predictions.Predict(request, timeout=30)
    assert list(response.outputs["y"].float_val) == [3.0]  # in the typed field, where clients look for it
    assert response.outputs["y"].dtype == tf.float32.as_datatype_enum
    assert spec_of(response) == ("half_plus_two", "serving_default", 123)
    del request.output_filter[:]
    assert list(server.predictions.Predict(request, timeout=30).outputs) == ["y"]


def test_predict_by_values_of_a_field(server):
    tensor = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, float_val=[4.0])  # one value fills the shape
    tensor.tensor_shape.dim.add(size=2)
    response = server.predictions.Predict(predict_request(x=tensor), timeout=30)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [4.0, 4.0]


def test_predict_several_types(server):
    request = predict_request("shapes", matrix=[[1.0, 2.0]], count=tf.constant([7], tf.int64).numpy(), word=[b"ab"])
    outputs = server.predictions.Predict(request, timeout=30).outputs
    assert {name: tf.make_ndarray(tensor).tolist() for name, tensor in outputs.items()} == {
        "sums": [3.0],
        "next": [8],
        "words": [b"AB"],
    }


def test_classify_and_regress(server):
    classified = server.predictions.Classify(
        example_request(classification_pb2.ClassificationRequest, "classify_labels", 2.0), timeout=30
    )
    (one,) = classified.result.classifications
    assert [(c.label, c.score) for c in one.classes] == [("even", 3.0)]
    assert spec_of(classified) == ("half_plus_two", "classify_labels", 123)
    regressed = server.predictions.Regress(
        example_request(regression_pb2.RegressionRequest, "regress_x_to_y", 2.0), timeout=30
    )
    assert [r.value for r in regressed.result.regressions] == [3.0]
    assert spec_of(regressed) == ("half_plus_two", "regress_x_to_y", 123)


def test_multi_inference(server):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "half_plus_two"
        task.model_spec.signature_name = signature
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    response = server.predictions.MultiInference(request, timeout=30)
    assert response.results[0].regression_result.regressions[0].value == 3.0
    assert response.results[1].classification_result.classifications[0].classes[0].score == 3.0
    assert [spec_of(result) for result in response.results] == [
        ("half_plus_two", "regress_x_to_y", 123),
        ("half_plus_two", "classify_x_to_y", 123),
    ]
    request.tasks[1].model_spec.signature_name = "regress_x_to_y"
    assert failure(server.predictions.MultiInference, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Duplicate evaluation of signature: regress_x_to_y",
    )


def test_multi_inference_of_signatures_with_inputs_of_their_own(server):
    request = inference_pb2.MultiInferenceRequest()
    for method in ("regress", "classify"):  # a TF2 export has a placeholder for each signature
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "shapes", method
    for x in (1.0, 2.0):
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(x)
    regressed, classified = server.predictions.MultiInference(request, timeout=30).results
    assert [r.value for r in regressed.regression_result.regressions] == [3.0, 6.0]
    assert [c.classes[0].score for c in classified.classification_result.classifications] == [2.0, 4.0]


def test_a_string_without_dimensions(server):
    request = predict_request("shapes", words=[b"a\0", b"b"])
    request.model_spec.signature_name = "first"
    word = server.predictions.Predict(request, timeout=30).outputs["word"]
    assert (list(word.string_val), list(word.tensor_shape.dim)) == ([b"a\0"], [])


def proto(dtype: tf.DType, *dims: int, **values: object) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in dims:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        proto(tf.resource, 2),
        proto(tf.variant, 2),
        tensor_pb2.TensorProto(dtype=999),
        proto(tf.float32, 10**12, float_val=[1.0]),
        proto(tf.float32, 10**6, 10**6),
        proto(tf.string, 10**12, string_val=[b"a"]),
        proto(tf.bool, 2**31, bool_val=[True]),
        proto(tf.float32, 2**63 - 1),
        proto(tf.float32, -1, tensor_content=b"\0" * 4),
        proto(tf.float32, -1, -1, float_val=[1.0]),
        proto(tf.float32, *[1] * 65, float_val=[1.0]),
        proto(tf.float32, 2, tensor_content=b"\0" * 7),
        proto(tf.string, 1, tensor_content=b"\1a"),
        proto(tf.int8, 1, int_val=[300]),
        proto(tf.half, 1, half_val=[2**16]),
        proto(tf.bfloat16, 1, half_val=[-1]),
    ],
    ids=lambda tensor: f"{tensor.dtype} {[dim.size for dim in tensor.tensor_shape.dim][:2]}",
)
def test_tensors_that_are_none(server, tensor):
    refused = failure(server.predictions.Predict, predict_request(x=tensor))
    assert refused == (grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: x")


def test_tensors_of_other_types(server):
    for dtype, name in ((tf.complex64, "complex64"), (tf.bfloat16, "bfloat16"), (tf.half, "half"), (tf.bool, "bool")):
        refused = failure(server.predictions.Predict, predict_request(x=proto(dtype, 2)))
        assert refused == (grpc.StatusCode.INVALID_ARGUMENT, f"Expects arg[0] to be float but {name} is provided")


def test_an_output_that_cannot_be_sent(server):
    request = predict_request("shapes", x=[1.0])
    request.model_spec.signature_name = "optional"
    refused = "Output held cannot be sent: its tensor type is variant. Name the others as output_filter."
    assert failure(server.predictions.Predict, request) == (grpc.StatusCode.INVALID_ARGUMENT, refused)
    rest = server.post("shapes:predict", {"signature_name": "optional", "instances": [1.0]})
    assert (rest.status_code, rest.json()) == (400, {"error": refused})
    request.output_filter.append("sent")
    assert list(server.predictions.Predict(request, timeout=30).outputs["sent"].float_val) == [1.0]


def test_metadata(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half_plus_two"
    response = server.predictions.GetModelMetadata(request, timeout=30)
    assert response.model_spec.version.value == 123
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["regress_x_to_y"].method_name == "tensorflow/serving/regress"
    request.metadata_field[0] = "other"
    assert failure(server.predictions.GetModelMetadata, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Metadata field other is not supported",
    )


def test_status(server):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    (status,) = server.models.GetModelStatus(request, timeout=30).model_version_status
    assert (status.version, status.state, status.status.error_code) == (123, 30, 0)
    assert failure(server.models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Missing ModelSpec",
    )


def test_errors(server):
    predict = server.predictions.Predict
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert failure(predict, predict_pb2.PredictRequest()) == (invalid, "Missing ModelSpec")
    assert failure(predict, predict_request("missing")) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(missing)",
    )
    assert failure(predict, predict_request()) == (
        invalid,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    )
    assert failure(predict, predict_request(x=["text"])) == (
        invalid,
        "Expects arg[0] to be float but string is provided",
    )
    request = predict_request(x=[1.0])
    request.output_filter.append("z")
    assert failure(predict, request) == (
        invalid,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    )
    request = predict_request(x=[1.0])
    request.model_spec.signature_name = "none"
    assert failure(predict, request) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "none" not found.',
    )
    request.model_spec.version_label = "stable"
    assert failure(predict, request) == (invalid, "Unrecognized servable version label: stable")
    empty = classification_pb2.ClassificationRequest()
    empty.model_spec.name, empty.model_spec.signature_name = "half_plus_two", "classify_x_to_y"
    assert failure(server.predictions.Classify, empty) == (invalid, "Input is empty.")


def test_only_a_list_of_models_can_be_loaded(server):
    request = model_management_pb2.ReloadConfigRequest()
    code, text = failure(server.models.HandleReloadConfigRequest, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Only ModelConfigList is currently supported" in text
