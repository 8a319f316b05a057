"""The messages of TensorFlow Serving's gRPC services, as far as this client needs them.

The message classes are created at import from the text below, in a separate descriptor pool: TensorFlow's own messages,
which are in the default pool, may be imported in the same process. Field numbers and types are those of tensorflow/core
and tensorflow_serving, so the messages are the same on the wire. Fields that are missing here are ignored in responses.
"""

import re
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PACKAGE = "tensorflow.serving"
TEXT = """
message TensorShapeProto { repeated Dim dim = 2; bool unknown_rank = 3; }
message Dim { int64 size = 1; string name = 2; }
message TensorProto {
  DataType dtype = 1;
  TensorShapeProto tensor_shape = 2;
  bytes tensor_content = 4;
  repeated float float_val = 5;
  repeated double double_val = 6;
  repeated int32 int_val = 7;
  repeated bytes string_val = 8;
  repeated int64 int64_val = 10;
  repeated bool bool_val = 11;
  repeated int32 half_val = 13;
  repeated uint32 uint32_val = 16;
  repeated uint64 uint64_val = 17;
}
enum DataType {
  DT_INVALID = 0; DT_FLOAT = 1; DT_DOUBLE = 2; DT_INT32 = 3; DT_UINT8 = 4; DT_INT16 = 5; DT_INT8 = 6; DT_STRING = 7;
  DT_COMPLEX64 = 8; DT_INT64 = 9; DT_BOOL = 10; DT_BFLOAT16 = 14; DT_UINT16 = 17; DT_HALF = 19; DT_UINT32 = 22;
  DT_UINT64 = 23;
}

message Example { Features features = 1; }
message Features { map<string, Feature> feature = 1; }
message Feature { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; }
message BytesList { repeated bytes value = 1; }
message FloatList { repeated float value = 1; }
message Int64List { repeated int64 value = 1; }

message ModelSpec {
  string name = 1;
  google.protobuf.Int64Value version = 2;
  string signature_name = 3;
  string version_label = 4;
}
message PredictRequest { ModelSpec model_spec = 1; map<string, TensorProto> inputs = 2; }
message PredictResponse { map<string, TensorProto> outputs = 1; ModelSpec model_spec = 2; }

message Input { ExampleList example_list = 1; }
message ExampleList { repeated Example examples = 1; }
message ClassificationRequest { ModelSpec model_spec = 1; Input input = 2; }
message ClassificationResponse { ClassificationResult result = 1; ModelSpec model_spec = 2; }
message ClassificationResult { repeated Classifications classifications = 1; }
message Classifications { repeated Class classes = 1; }
message Class { string label = 1; float score = 2; }
message RegressionRequest { ModelSpec model_spec = 1; Input input = 2; }
message RegressionResponse { RegressionResult result = 1; ModelSpec model_spec = 2; }
message RegressionResult { repeated Regression regressions = 1; }
message Regression { float value = 1; }

message GetModelMetadataRequest { ModelSpec model_spec = 1; repeated string metadata_field = 2; }
message GetModelMetadataResponse { ModelSpec model_spec = 1; map<string, google.protobuf.Any> metadata = 2; }
message SignatureDefMap { map<string, SignatureDef> signature_def = 1; }
message SignatureDef {
  map<string, TensorInfo> inputs = 1;
  map<string, TensorInfo> outputs = 2;
  string method_name = 3;
}
message TensorInfo { string name = 1; DataType dtype = 2; TensorShapeProto tensor_shape = 3; }

message GetModelStatusRequest { ModelSpec model_spec = 1; }
message GetModelStatusResponse { repeated ModelVersionStatus model_version_status = 1; }
message ModelVersionStatus { int64 version = 1; State state = 2; StatusProto status = 3; }
enum State { UNKNOWN = 0; START = 10; LOADING = 20; AVAILABLE = 30; UNLOADING = 40; END = 50; }
message StatusProto { int32 error_code = 1; string error_message = 2; }

message ReloadConfigRequest { bytes config = 1; }
message ReloadConfigResponse { StatusProto status = 1; }
message ModelServerConfig { ModelConfigList model_config_list = 1; }
message ModelConfigList { repeated ModelConfig config = 1; }
message ModelConfig {
  string name = 1;
  string base_path = 2;
  string model_platform = 4;
  ServableVersionPolicy model_version_policy = 7;
  map<string, int64> version_labels = 8;
}
message ServableVersionPolicy { Latest latest = 100; All all = 101; Specific specific = 102; }
message Latest { uint32 num_versions = 1; }
message All {}
message Specific { repeated int64 versions = 1; }
"""
# ReloadConfigRequest.config is a ModelServerConfig. As bytes it is the same on the wire, and any module's can be sent.

_F = descriptor_pb2.FieldDescriptorProto


def _file(text: str) -> descriptor_pb2.FileDescriptorProto:
    """Parse the messages and enums of `text`, which is proto3 without nesting and oneof."""
    file = descriptor_pb2.FileDescriptorProto(
        name="nightly_client.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )
    enums = set(re.findall(r"enum (\w+)", text))

    def typed(field: _F, kind: str) -> None:
        scalar = getattr(_F, f"TYPE_{kind.upper()}", None)
        if scalar is None:
            field.type = _F.TYPE_ENUM if kind in enums else _F.TYPE_MESSAGE
            field.type_name = f".{kind}" if "." in kind else f".{PACKAGE}.{kind}"
        else:
            field.type = scalar

    for keyword, name, body in re.findall(r"(message|enum) (\w+) \{([^}]*)\}", text):
        if keyword == "enum":
            enum = file.enum_type.add(name=name)
            for value, number in re.findall(r"(\w+) = (\d+);", body):
                enum.value.add(name=value, number=int(number))
            continue
        message = file.message_type.add(name=name)
        for label, value, kind, name, number in re.findall(
            r"(repeated )?(?:map<string, ([\w.]+)>|([\w.]+)) (\w+) = (\d+);", body
        ):
            many = _F.LABEL_REPEATED if label or value else _F.LABEL_OPTIONAL
            field = message.field.add(name=name, number=int(number), label=many)
            typed(field, kind or f"{message.name}.{name}Entry")
            if value:
                field.type_name = f".{PACKAGE}.{message.name}.{_camel(name)}Entry"
                entry = message.nested_type.add(name=f"{_camel(name)}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=_F.LABEL_OPTIONAL, type=_F.TYPE_STRING)
                typed(entry.field.add(name="value", number=2, label=_F.LABEL_OPTIONAL), value)
    return file


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


_POOL = descriptor_pool.DescriptorPool()
_FILES = [any_pb2.DESCRIPTOR.serialized_pb, wrappers_pb2.DESCRIPTOR.serialized_pb, _file(TEXT).SerializeToString()]
for _serialized in _FILES:
    _POOL.AddSerializedFile(_serialized)
# References to all classes, also of fields: protobuf has only weak ones, and would recreate the classes at each call.
_CLASSES = message_factory.GetMessageClassesForFiles(
    [descriptor_pb2.FileDescriptorProto.FromString(serialized).name for serialized in _FILES], _POOL
)


def message(name: str) -> Any:
    """Return the class of a message in the text above. Raises KeyError if it is not there."""
    return _CLASSES[f"{PACKAGE}.{name}"]


def enum(name: str) -> dict[str, int]:
    """Return name -> number of an enum in the text above."""
    return {value.name: value.number for value in _POOL.FindEnumTypeByName(f"{PACKAGE}.{name}").values}


Example = message("Example")


def example(features: dict[str, Any]) -> Any:
    """Return a tf.Example. A value is a string, bytes, float or integer, or a list of them; None is left out.

    Raises TypeError for any other value.
    """
    tf_example = Example()
    for name, value in features.items():
        if value is None:
            continue
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        feature = tf_example.features.feature[name]
        if all(isinstance(v, (str, bytes)) for v in values):
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
        elif all(isinstance(v, int) for v in values):
            feature.int64_list.value.extend(int(v) for v in values)
        elif all(isinstance(v, (int, float)) for v in values):
            feature.float_list.value.extend(values)
        else:
            raise TypeError(f"feature {name!r} is {value!r}: give strings, bytes, ints, floats, or a list of one kind")
    return tf_example


def features(tf_example: Any) -> dict[str, list[bytes] | list[int] | list[float]]:
    """Return name -> values of a tf.Example's features."""
    values = {}
    for name, feature in tf_example.features.feature.items():
        lists = feature.ListFields()
        values[name] = list(lists[0][1].value) if lists else []
    return values
