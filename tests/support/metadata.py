"""Runs in ML Metadata, without a pipeline."""

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.portable import execution_publish_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.types import standard_artifacts


def begin(handle, name):
    """Register a run with an execution; return the execution and the run's context."""
    context = context_lib.register_context_if_not_exists(handle, "pipeline_run", name)
    kind = metadata_store_pb2.ExecutionType(name="Anything")
    return execution_publish_utils.register_execution(handle, kind, [context]), context


def run_with_an_artifact(handle, name, uri):
    uri.mkdir(parents=True)
    (uri / "payload").write_text(name)
    execution, context = begin(handle, name)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(uri)
    execution_publish_utils.publish_succeeded_execution(handle, execution.id, [context], {"examples": [artifact]})
