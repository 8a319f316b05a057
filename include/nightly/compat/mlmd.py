"""A limit of ML Metadata in PostgreSQL: the index of properties refuses a text of more than 2704 bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable import execution_publish_utils
from tfx.proto.orchestration import execution_result_pb2

CHUNK = 2000  # bytes
WIDEST = 4  # bytes of a character in UTF-8


def chunks(name: str, text: str) -> dict[str, str]:
    """Divide a property's text into properties `name`, `name`.1, `name`.2, … of at most CHUNK bytes each."""
    size = CHUNK if text.isascii() else CHUNK // WIDEST
    starts = range(0, max(len(text), 1), size)
    return {chunk_name(name, number): text[start : start + size] for number, start in enumerate(starts)}


def chunk_name(name: str, number: int) -> str:
    return f"{name}.{number}" if number else name


def register_execution(
    handle: metadata.Metadata,
    execution_type: metadata_store_pb2.ExecutionType,
    contexts: Sequence[metadata_store_pb2.Context],
    *,
    input_artifacts: Any = None,
    exec_properties: Mapping[str, Any] | None = None,
) -> metadata_store_pb2.Execution:
    """Register a new execution as TFX does, with long texts among its properties in chunks."""
    properties: dict[str, Any] = {}
    for name, value in (exec_properties or {}).items():
        properties |= chunks(name, value) if isinstance(value, str) else {name: value}
    return execution_publish_utils.register_execution(
        handle, execution_type, contexts, input_artifacts=input_artifacts, exec_properties=properties
    )


def divide_properties(output: execution_result_pb2.ExecutorOutput) -> None:
    """Divide the long texts among the properties that an executor returns: TFX's return all their parameters."""
    for name, value in list(output.execution_properties.items()):
        if value.HasField("string_value"):
            for part, text in chunks(name, value.string_value).items():
                output.execution_properties[part].string_value = text
