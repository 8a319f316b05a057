"""The client's own messages against those of tensorflow-serving-api: the same on the wire."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from nightly_client import protos
from nightly_client.tensors import from_tensor, to_tensor

ROOTS = [
    predict_pb2.PredictRequest,
    predict_pb2.PredictResponse,
    classification_pb2.ClassificationRequest,
    classification_pb2.ClassificationResponse,
    regression_pb2.RegressionRequest,
    regression_pb2.RegressionResponse,
    get_model_metadata_pb2.GetModelMetadataRequest,
    get_model_metadata_pb2.GetModelMetadataResponse,
    get_model_metadata_pb2.SignatureDefMap,
    get_model_status_pb2.GetModelStatusRequest,
    get_model_status_pb2.GetModelStatusResponse,
    model_management_pb2.ReloadConfigRequest,
    model_management_pb2.ReloadConfigResponse,
]
AS_BYTES = {("ReloadConfigRequest", "config")}  # looks the same on the wire
ENUM, INT32, MESSAGE = 14, 5, 11


def compare(ours, theirs, seen: set[str]) -> None:
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert field.name == other.name and field.is_repeated == other.is_repeated, field.full_name
        if (ours.name, field.name) in AS_BYTES:
            continue
        assert field.type == other.type or {field.type, other.type} == {ENUM, INT32}, field.full_name
        if field.type == MESSAGE:
            compare(field.message_type, other.message_type, seen)
        elif field.type == ENUM:
            for value in field.enum_type.values:
                assert other.enum_type.values_by_name[value.name].number == value.number


def test_every_field_has_its_number_name_and_type():
    seen: set[str] = set()
    for theirs in ROOTS:
        compare(protos.message(theirs.DESCRIPTOR.name).DESCRIPTOR, theirs.DESCRIPTOR, seen)
    config = model_management_pb2.ReloadConfigRequest.DESCRIPTOR.fields_by_name["config"].message_type
    compare(protos.message("ModelServerConfig").DESCRIPTOR, config, seen)
    defined = {line.split()[1] for line in protos.TEXT.splitlines() if line.startswith("message")}
    assert {f"{protos.PACKAGE}.{name}" for name in defined} <= seen, "a message that nothing uses"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "int16", "int8", "int64"])
def test_numbers_are_those_of_tensorflow(dtype):
    values = [[1, 2, 2], [100, 2, 2]]
    name = types_pb2.DataType.Name(tf.as_dtype(dtype).as_datatype_enum)
    sent = types_pb2.DataType.Value(name) and to_tensor(values, name).SerializeToString()
    assert tf.make_ndarray(tf.make_tensor_proto(0).FromString(sent)).tolist() == values
    for tensor in (tf.constant(values, dtype), tf.zeros([2, 3], dtype)):
        proto = tf.make_tensor_proto(tensor)
        assert (
            from_tensor(protos.message("TensorProto").FromString(proto.SerializeToString())) == tensor.numpy().tolist()
        )


def test_strings_scalars_and_empty_tensors():
    for values in ([["ä", "b"], ["c", ""]], "x", [], [[], []]):
        sent = to_tensor(values, "DT_STRING").SerializeToString()
        expected = tf.constant(values, tf.string).numpy()
        got = tf.make_ndarray(tf.make_tensor_proto(0).FromString(sent))
        assert np.shape(got) == np.shape(expected) and np.all(got == expected)
    back = protos.message("TensorProto").FromString(tf.make_tensor_proto([b"a", b"a"]).SerializeToString())
    assert from_tensor(back) == [b"a", b"a"]


@pytest.mark.parametrize("ragged", [[[1], [2, 3]], [1, [2]], [[1], 2]])
def test_ragged_values_are_refused(ragged):
    with pytest.raises(ValueError, match="not of one shape"):
        to_tensor(ragged, "DT_FLOAT")
