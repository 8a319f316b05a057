"""The model server's three configuration files, in the text format of TensorFlow Serving's protos."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from nightly_server.errors import ServingError, invalid

PLATFORM = "tensorflow"

# tensorflow-serving-api has no module for these two protos. Field numbers and types are those of
# tensorflow_serving/servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto.
_SCHEMA = descriptor_pb2.FileDescriptorProto(
    name="nightly_server/config.proto",
    package="nightly_server",
    syntax="proto3",
    dependency=[wrappers_pb2.DESCRIPTOR.name],
)
text_format.Parse(
    """
    message_type {
      name: "BatchingParameters"
      field { number: 1 name: "max_batch_size" type_name: ".google.protobuf.Int64Value" }
      field { number: 2 name: "batch_timeout_micros" type_name: ".google.protobuf.Int64Value" }
      field { number: 3 name: "max_enqueued_batches" type_name: ".google.protobuf.Int64Value" }
      field { number: 4 name: "num_batch_threads" type_name: ".google.protobuf.Int64Value" }
      field { number: 5 name: "thread_pool_name" type_name: ".google.protobuf.StringValue" }
      field { number: 6 name: "allowed_batch_sizes" type: TYPE_INT64 label: LABEL_REPEATED }
      field { number: 7 name: "pad_variable_length_inputs" type: TYPE_BOOL }
    }
    message_type {
      name: "PrometheusConfig"
      field { number: 1 name: "enable" type: TYPE_BOOL }
      field { number: 2 name: "path" type: TYPE_STRING }
    }
    message_type {
      name: "MonitoringConfig"
      field { number: 1 name: "prometheus_config" type_name: ".nightly_server.PrometheusConfig" }
    }
    """,
    _SCHEMA,
)
_MESSAGES = message_factory.GetMessages([_SCHEMA], descriptor_pool.Default())
_BatchingParameters = _MESSAGES["nightly_server.BatchingParameters"]
_MonitoringConfig = _MESSAGES["nightly_server.MonitoringConfig"]


def read_model_config(path: str) -> model_server_config_pb2.ModelServerConfig:
    """Read `--model_config_file`. Raise ServingError (INVALID_ARGUMENT) with the line that does not parse."""
    return _read(path, model_server_config_pb2.ModelServerConfig())


def single_model_config(name: str, base_path: str) -> model_server_config_pb2.ModelServerConfig:
    """Return the configuration for `--model_name` and `--model_base_path`."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def validate(
    new: model_server_config_pb2.ModelServerConfig, old: model_server_config_pb2.ModelServerConfig | None = None
) -> None:
    """Raise ServingError unless TensorFlow Serving's rules let the server go from `old` to `new`."""
    case = new.WhichOneof("config")
    if case != "model_config_list" and old is not None:
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
            "another.",
        )
    if case == "custom_model_config":
        raise invalid("Missing custom_model_config_loader in ServerCore Options")
    names = set()
    for model in new.model_config_list.config:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if "://" not in model.base_path and not Path(model.base_path).is_absolute():
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        legacy = model.model_type == model_server_config_pb2.TENSORFLOW
        platform = model.model_platform or (PLATFORM if legacy else "")
        if not platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        if platform != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {platform}")


@dataclass(frozen=True)
class BatchingParameters:
    """`--batching_parameters_file`; the defaults are those of TensorFlow's shared batch scheduler."""

    max_batch_size: int = 1000  # rows
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10  # per model version and signature
    num_batch_threads: int = 0  # 0: as many as there are CPUs
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise invalid(
                f"allowed_batch_sizes {list(sizes)} must increase and end with max_batch_size {self.max_batch_size}"
            )
        if self.max_batch_size < 1 or self.max_enqueued_batches < 1 or self.batch_timeout_micros < 0:
            raise invalid(
                "max_batch_size and max_enqueued_batches must be at least 1 and batch_timeout_micros at least 0; "
                f"got {self.max_batch_size}, {self.max_enqueued_batches} and {self.batch_timeout_micros}"
            )


def read_batching_parameters(path: str) -> BatchingParameters:
    """Read `--batching_parameters_file`. Raise ServingError (INVALID_ARGUMENT), also for unsupported parameters."""
    message = _read(path, _BatchingParameters())
    values = {}
    for field, value in message.ListFields():
        if field.name == "allowed_batch_sizes":
            values[field.name] = tuple(value)
        else:
            values[field.name] = value.value if field.message_type else value
    return BatchingParameters(**values)


def read_prometheus_path(path: str) -> str:
    """Return the path of the metrics from `--monitoring_config_file`, or "" if they are off."""
    monitoring = _read(path, _MonitoringConfig())
    prometheus = monitoring.prometheus_config
    return prometheus.path or "/monitoring/prometheus/metrics" if prometheus.enable else ""


def _read(path: str, message):
    try:
        return text_format.Parse(Path(path).read_text("utf-8"), message)
    except OSError as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error}") from None
    except (text_format.ParseError, ValueError) as error:  # ValueError: not UTF-8, or a number out of range
        place = str(error).replace(" : ", ": ", 1)
        raise invalid(
            f"Invalid protobuf file: '{path}': Error parsing text-format tensorflow.serving.{message.DESCRIPTOR.name}: "
            f"{place}"
        ) from None
