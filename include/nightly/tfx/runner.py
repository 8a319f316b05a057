"""Run one node of a night's TFX pipeline, in this process, with ML Metadata as the record.

A whole night without Airflow: include/nightly/runtime/whole_night.py.
"""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import data_types, inputs_utils, runtime_parameter_utils
from tfx.orchestration.portable.input_resolution import exceptions
from tfx.proto.orchestration import execution_result_pb2, pipeline_pb2

from nightly.compat.tfx import RerunLauncher
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.models import config_of
from nightly.nights.space import check_node
from nightly.records.night import Night
from nightly.records.reuse import REUSE, Reuse
from nightly.tfx import metadata, retention, seals
from nightly.tfx.pipeline import create_pipeline, read_inputs
from nightly.tfx.reuse import REUSABLE, Work

log = logging.getLogger("nightly")

IMPORTER = "tfx.dsl.components.common.importer.Importer"


def run_node(node_id: str, night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Run the node of the night's pipeline; returns what it wrote to the night's folder, or its outputs' paths.

    Raises ValueError for a node that the pipeline does not have, and whatever the node's executor raises.
    """
    night = Night.load(night_folder / "request.json")
    pipeline = compiler.Compiler().compile(create_pipeline(read_inputs(night, paths)))
    nodes = {entry.pipeline_node.node_info.id: entry.pipeline_node for entry in pipeline.nodes}
    if node_id not in nodes:
        raise ValueError(f"{night.model}'s pipeline has no node {node_id!r}" + did_you_mean(node_id, list(nodes)))
    run_id = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: night.run_id}
    for part in (pipeline.runtime_spec, nodes[node_id], *(nodes[name] for name in nodes[node_id].upstream_nodes)):
        runtime_parameter_utils.substitute_runtime_parameter(part, run_id)
    with metadata.node_lock(night_folder, node_id):
        return _run(nodes[node_id], nodes, pipeline, metadata.NightlyMetadata(paths, night.model), night, paths)


def _run(
    node: pipeline_pb2.PipelineNode,
    nodes: Mapping[str, pipeline_pb2.PipelineNode],
    pipeline: pipeline_pb2.Pipeline,
    handle: metadata.NightlyMetadata,
    night: Night,
    paths: Paths,
) -> dict[str, Any]:
    node_id, folder = node.node_info.id, night.folder(paths)
    for upstream in node.upstream_nodes:  # an import has no task of its own
        if nodes[upstream].node_info.type.name == IMPORTER:
            _launch(nodes[upstream], pipeline, handle, night)
    with handle:
        metadata.resolve_inputs(handle, node, nodes)
    if not node.upstream_nodes:
        with handle:
            root = paths.pipeline / night.model
            metadata.close_abandoned(handle, night.model, paths.nights / night.model, root)
            retention.prune(handle, root, config_of(night).retention.runs)
    written, said = folder / f"{node_id}.json", folder / REUSE.format(node_id)
    written.unlink(missing_ok=True)
    said.unlink(missing_ok=True)
    reuse = _launch(node, pipeline, handle, night)
    if reuse:
        reuse.save(said)
    if written.exists():
        return json.loads(written.read_text())
    with handle:
        return {a.name or str(a.id): a.uri for a in metadata.outputs(handle, node)}


class NightlyLauncher(RerunLauncher):
    """A launcher that seals what was made."""

    def executed(self, info: data_types.ExecutionInfo, output: execution_result_pb2.ExecutorOutput) -> None:
        """Of each artifact there are two: as it was planned, and as the executor describes it, which is published."""
        planned = (artifact.mlmd_artifact for group in info.output_dict.values() for artifact in group)
        described = (artifact for group in output.output_artifacts.values() for artifact in group.artifacts)
        seals.seal((*planned, *described), self.node.node_info.id, info.pipeline_run_id)


def _inputs(node: pipeline_pb2.PipelineNode, handle: metadata.NightlyMetadata) -> seals.Artifacts:
    """The node's input artifacts by name; none where they cannot be resolved, which the launcher says better."""
    with handle, contextlib.suppress(exceptions.InputResolutionError):
        if resolved := inputs_utils.resolve_input_artifacts(pipeline_node=node, metadata_handle=handle):
            return resolved[0]
    return {}


def _launch(
    node: pipeline_pb2.PipelineNode, pipeline: pipeline_pb2.Pipeline, handle: metadata.NightlyMetadata, night: Night
) -> Reuse | None:
    """Run the node, unless an earlier run's work can be taken over; says which, for a node of which that is asked."""
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    executor = runner_utils.extract_executor_spec(deployment, node.node_info.id)
    root = Path(pipeline.runtime_spec.pipeline_root.field_value.string_value)
    with handle:
        metadata.forget_outputs(handle, node, root)
    inputs = _inputs(node, handle)
    contents = seals.check(inputs)
    spared = node.node_info.id in REUSABLE and config_of(night).pipeline.reuse
    work = Work(handle, node, pipeline, executor, night, inputs, contents) if spared else None
    reuse = work.take_over() if work else None
    if reuse and reuse.run_id:
        log.info("reused: %s", reuse.reason)
        return reuse
    if reuse:
        log.info("computed: %s", reuse.reason)
    check_node(root, node.node_info.id, map(Path, contents))
    done = NightlyLauncher(
        pipeline_node=node,
        mlmd_connection=handle,
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=executor,
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node.node_info.id),
    ).launch()
    if done is None or (not done.output_dict and node.outputs.outputs):
        wanted = ", ".join(sorted(node.upstream_nodes))
        raise RuntimeError(
            f"{node.node_info.id} found no inputs in this run: run {wanted} first, in the same run "
            "(in Airflow: clear those tasks too)"
        )
    if work:
        work.remember(done.execution_id, done.output_dict)
    return reuse
