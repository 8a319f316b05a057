"""Stores of ML Metadata that older versions wrote, in which an artifact type has its old name."""

from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.dsl.compiler import compiler, constants
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.types.artifact import Artifact

from nightly.compat.tfx import RerunLauncher
from nightly.tfx.artifacts import RENAMED, DataBlessing
from nightly.tfx.components.blessing import is_blessed
from nightly.tfx.metadata import NightlyMetadata, resolve_inputs


class OldBlessing(Artifact):
    """DataBlessing as older versions named it."""

    TYPE_NAME = "DataBlessing"


@component
def OldGate(blessing: OutputArtifact[OldBlessing]) -> None:
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / "BLESSED").touch()


@component
def NewGate(blessing: OutputArtifact[DataBlessing]) -> None:
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / "BLESSED").touch()


@component
def Reader(blessing: InputArtifact[DataBlessing], file: Parameter[str]) -> None:
    Path(file).write_text(f"{blessing.type_name} {is_blessed(blessing)}")


def launch(node_id, gate, paths, handle, file):
    """Launch a node of the pipeline gate -> reader, as the runner does. The gate needs no reader."""
    components = [gate().with_id("gate")]
    if node_id == "reader":
        components += [Reader(blessing=components[0].outputs["blessing"], file=str(file)).with_id("reader")]
    pipeline = compiler.Compiler().compile(
        tfx.dsl.Pipeline(
            pipeline_name="taxi",
            pipeline_root=str(paths.pipeline / "taxi"),
            components=components,
            metadata_connection_config=handle.connection_config,
        )
    )
    nodes = {entry.pipeline_node.node_info.id: entry.pipeline_node for entry in pipeline.nodes}
    for part in (pipeline.runtime_spec, *nodes.values()):
        runtime_parameter_utils.substitute_runtime_parameter(part, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: "run"})
    with handle:
        resolve_inputs(handle, nodes[node_id], nodes)
    return RerunLauncher(
        pipeline_node=nodes[node_id],
        mlmd_connection=handle,
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(
            runner_utils.extract_local_deployment_config(pipeline), node_id
        ),
    ).launch()


@pytest.mark.parametrize("gate", [OldGate, NewGate], ids=["written before", "written now"])
def test_a_night_goes_on_whose_gate_an_older_version_has_run(paths, tmp_path, gate):
    handle = NightlyMetadata(paths, "taxi")
    launch("gate", gate, paths, handle, tmp_path / "read")
    launch("reader", NewGate, paths, handle, tmp_path / "read")
    name, blessed = (tmp_path / "read").read_text().split()
    assert RENAMED.get(name, name) == DataBlessing.TYPE_NAME and blessed == "True"


def test_artifacts_of_both_names_can_be_in_a_store(paths, tmp_path):
    handle = NightlyMetadata(paths, "taxi")
    for gate in (OldGate, NewGate):
        launch("gate", gate, paths, handle, tmp_path / "read")
    with handle:
        names = {kind.name for kind in handle.store.get_artifact_types()}
    assert {"DataBlessing", "nightly.DataBlessing"} <= names
