"""Private parts of TFX: the steps of its launcher, and the user count of its metadata handle."""

from typing import Any, Self

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable import data_types, launcher, outputs_utils
from tfx.proto.orchestration import execution_result_pb2, pipeline_pb2

from nightly.compat.mlmd import divide_properties, register_execution

WORKING_FOLDER = outputs_utils._STATEFUL_WORKING_DIR_INDEX


class PersistentMetadata(metadata.Metadata):
    """A metadata handle that connects once. TFX's own connects at each of the ten entries of a node."""

    def __init__(self, config: metadata_store_pb2.ConnectionConfig) -> None:
        super().__init__(config)
        self._connected: mlmd.MetadataStore | None = None

    @property
    def entered(self) -> bool:
        return self._users > 0

    def __enter__(self) -> Self:
        if self._connected is None:
            super().__enter__()
            self._connected = self._store
        else:
            self._store = self._connected
            self._users += 1
        return self


class RerunLauncher(launcher.Launcher):
    """A TFX launcher that can rerun a node within its run, opens no port, and has a hook before publishing.

    TFX's own launcher skips a node that has succeeded in the run, even if its inputs have changed since. It also runs a
    gRPC server beside each executor, for news of remote jobs, which these executors do not start. And it keeps the
    working folder of a failed execution for its retry, under a random name; here, it has the execution's id.
    """

    def executed(self, info: data_types.ExecutionInfo, output: execution_result_pb2.ExecutorOutput) -> None:
        """Override to use the outputs before they are published. An exception here fails the execution."""

    @property
    def node(self) -> pipeline_pb2.PipelineNode:
        return self._pipeline_node

    def launch(self) -> data_types.ExecutionInfo | None:
        """Run the node; return its execution, or None if its driver decides that it cannot run.

        Raises what the executor raises.
        """
        if not self._executor_operator:  # an importer node
            return super().launch()
        prepared = self._prepare_execution()
        info = prepared.execution_info
        if not prepared.is_execution_needed:
            return info
        try:
            output = self._run_executor(info)
            self.executed(info, output)
        except Exception as error:
            failed = getattr(error, "executor_output", None)
            self._publish_failed_execution(info.execution_id, prepared.contexts, failed)
            raise
        finally:
            self._clean_up_stateless_execution_info(info)
        self._clean_up_stateful_execution_info(info)
        divide_properties(output)
        self._publish_successful_execution(info.execution_id, prepared.contexts, info.output_dict, output)
        return info

    def _register_or_reuse_execution(
        self, metadata_handle: metadata.Metadata, contexts: list[Any], **inputs: Any
    ) -> metadata_store_pb2.Execution:
        execution = register_execution(metadata_handle, self._pipeline_node.node_info.type, contexts, **inputs)
        execution.custom_properties[WORKING_FOLDER].string_value = str(execution.id)
        return execution
