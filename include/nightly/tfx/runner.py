"""Run one node of a night's TFX pipeline in this process, recorded in ML Metadata.

include/nightly/runtime/whole_night.py runs a whole night without Airflow.
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
from nightly.nights import snapshot
from nightly.nights.space import check_node
from nightly.records.base import ContractError
from nightly.records.night import Night
from nightly.records.reuse import Reuse
from nightly.snapshots.errors import DamagedSnapshotError, SnapshotError
from nightly.state import publish
from nightly.tfx import metadata, retention, seals
from nightly.tfx.pipeline import create_pipeline, read_inputs
from nightly.tfx.reuse import REUSABLE, NodeCache

log = logging.getLogger("nightly")

IMPORTER = "tfx.dsl.components.common.importer.Importer"


def run_node(node_id: str, night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Run a node of the night's pipeline. Return the JSON that it wrote to the night's folder, or its outputs' paths.

    If the night's snapshot is damaged, make it again from the night's downloads, and run the node once more. Raises
    ValueError if the pipeline has no such node, and whatever the node's executor raises.
    """
    try:
        return _run_node(node_id, night_folder, paths)
    except DamagedSnapshotError as damage:
        _remake_snapshot(night_folder, paths, damage)
    return _run_node(node_id, night_folder, paths)


def _remake_snapshot(night_folder: Path, paths: Paths, damage: DamagedSnapshotError) -> None:
    """Make the night's snapshot again, or raise `damage`, whose message says what a person can do."""
    log.warning("%s", damage)
    log.warning("the snapshot is made again from the night's downloads")
    try:
        snapshot.remake(night_folder, paths)
    except (SnapshotError, ContractError, FileNotFoundError) as error:
        log.warning("it cannot be made again: %s", error)
        raise damage from error


def _run_node(node_id: str, night_folder: Path, paths: Paths) -> dict[str, Any]:
    night = Night.load(night_folder / Night.FILE)
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
    for upstream in node.upstream_nodes:  # an importer has no Airflow task
        if nodes[upstream].node_info.type.name == IMPORTER:
            _launch(nodes[upstream], pipeline, handle, night)
    with handle:
        metadata.resolve_inputs(handle, node, nodes)
    if not node.upstream_nodes:
        with handle:
            metadata.close_abandoned(handle, night.model, nodes, paths)
            retention.remove_leftovers(handle, paths.pipeline / night.model)
            retention.prune(handle, paths, night.model, config_of(night).retention.runs)
    result, reuse_record = folder / f"{node_id}.json", folder / Reuse.FILE.format(node_id)
    result.unlink(missing_ok=True)
    reuse_record.unlink(missing_ok=True)
    reuse = _launch(node, pipeline, handle, night)
    if reuse:
        reuse.save(reuse_record)
    if result.exists():
        return json.loads(result.read_text())
    with handle:
        return {a.name or str(a.id): a.uri for a in metadata.outputs(handle, node)}


class NightlyLauncher(RerunLauncher):
    """A launcher that seals each output artifact, and publishes its files before ML Metadata names it."""

    def executed(self, info: data_types.ExecutionInfo, output: execution_result_pb2.ExecutorOutput) -> None:
        """Seal both objects of each artifact: the planned one, and the executor's, which is published."""
        planned = [artifact.mlmd_artifact for group in info.output_dict.values() for artifact in group]
        described = (artifact for group in output.output_artifacts.values() for artifact in group.artifacts)
        seals.seal((*planned, *described), self.node.node_info.id, info.pipeline_run_id)
        for artifact in planned:
            publish(Path(artifact.uri))


def _inputs(node: pipeline_pb2.PipelineNode, handle: metadata.NightlyMetadata) -> seals.Artifacts:
    """Return the node's input artifacts by name; {} if they cannot be resolved, which the launcher then reports."""
    with handle, contextlib.suppress(exceptions.InputResolutionError):
        if resolved := inputs_utils.resolve_input_artifacts(pipeline_node=node, metadata_handle=handle):
            return resolved[0]
    return {}


def _launch(
    node: pipeline_pb2.PipelineNode, pipeline: pipeline_pb2.Pipeline, handle: metadata.NightlyMetadata, night: Night
) -> Reuse | None:
    """Run the node, unless its outputs can be restored from the cache. Return which, or None if it is not cached."""
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    executor = runner_utils.extract_executor_spec(deployment, node.node_info.id)
    root = Path(pipeline.runtime_spec.pipeline_root.field_value.string_value)
    with handle:
        metadata.forget_outputs(handle, node, root)
    inputs = _inputs(node, handle)
    contents = seals.check(inputs)
    cached = node.node_info.id in REUSABLE and config_of(night).pipeline.reuse
    cache = NodeCache(handle, node, pipeline, executor, night, inputs, contents) if cached else None
    reuse = cache.restore() if cache else None
    if reuse and reuse.run_id:
        log.info("reused: %s", reuse.reason)
        return reuse
    if reuse:
        log.info("computed: %s", reuse.reason)
    check_node(root, node.node_info.id, map(Path, contents))
    execution = NightlyLauncher(
        pipeline_node=node,
        mlmd_connection=handle,
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=executor,
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node.node_info.id),
    ).launch()
    if execution is None or (not execution.output_dict and node.outputs.outputs):
        upstream = ", ".join(sorted(node.upstream_nodes))
        raise RuntimeError(
            f"{node.node_info.id} found no inputs in this run: run {upstream} first, in the same run "
            "(in Airflow: clear those tasks too)"
        )
    if cache:
        cache.store(execution.execution_id, execution.output_dict)
    return reuse
