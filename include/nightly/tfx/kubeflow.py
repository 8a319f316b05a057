"""Compile a model's nights for Kubeflow Pipelines, by TFX's KubeflowV2DagRunner.

Each task of a night is a container of the project's image, which runs `bin/pipeline run TASK`. The graph is that of
nightly.tfx.pipeline. Kubeflow gives each night its run id, and the order. All data is in the bucket that NIGHTLY_STATE
names and in ML Metadata's database, as under Airflow: Kubeflow's own artifacts are small files that name it.
"""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from tfx import v1 as tfx
from tfx.dsl.component.experimental.placeholders import InputValuePlaceholder
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.types.artifact import Artifact

from nightly.io import variables
from nightly.io.paths import Paths
from nightly.models import read_schema_text
from nightly.nights.plan import RunRequest, plan_night
from nightly.nights.steps import command_tasks_of, tasks_of
from nightly.records.config import ModelConfig
from nightly.records.night import Night, utc_now
from nightly.records.tasks import REVIEW, VERDICT
from nightly.tfx.metadata import Artifact as StoredArtifact
from nightly.tfx.metadata import NightlyMetadata
from nightly.tfx.pipeline import RUN_FN, PipelineInputs, create_nodes

RUN_ID = "{{$.pipeline_job_uuid}}"  # Kubeflow replaces it by the run's id
PARAMETERS = {"as_of": "", "release": "no"}  # of a run, which `plan` reads -> their defaults
SECRET = "nightly"  # the Kubernetes secret with the credentials
DATABASE = "NIGHTLY_METADATA_DB"
SERVER = (variables.SERVING_REST, variables.SERVING_GRPC, variables.SERVING_BASE_PATH)
# Of the bucket, unless the pods' service account may use it.
CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
DAG = "tfx-dag"  # TFX's name for the tasks before the exit handler


def compile_model(config: ModelConfig, image: str, state: str) -> str:
    """Return the YAML of the model's pipeline: its PipelineSpec, and the secrets of its containers.

    The containers get the addresses of the model server that this process has.

    :param image: the project's image
    :param state: the bucket of all state, s3://…, gs://… or az://…
    """
    tasks = _tasks(config, image)
    verdict = tasks.pop(VERDICT)
    runner = KubeflowV2DagRunner(KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True))
    runner.set_exit_handler(verdict)
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=f"{config.name}-retrain".replace("_", "-"),
        pipeline_root="",  # Kubeflow's own
        components=list(tasks.values()),
        enable_cache=False,
    )
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    _pass_parameters(spec)
    executors = spec["deploymentSpec"]["executors"]
    server = {variable.name: variable.read() for variable in SERVER if variable.read()}
    environment = {variables.STATE.name: state, **server}
    for executor in executors.values():
        executor["container"]["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    platform = {"kubernetes": {"deploymentSpec": {"executors": {name: _secrets(config, state) for name in executors}}}}
    return yaml.safe_dump_all([spec, {"platforms": platform}], sort_keys=True, allow_unicode=True)


def contents(night_folder: Path, paths: Paths) -> dict[str, str]:
    """Return NODE/KEY -> the artifact's path below NIGHTLY_VAR, for every artifact of the night."""
    night = Night.load(night_folder / Night.FILE)
    root = paths.pipeline / night.model
    with NightlyMetadata(paths, night.model) as handle:
        run = handle.store.get_context_by_type_and_name("pipeline_run", night.run_id)
        artifacts = handle.store.get_artifacts_by_context(run.id) if run else []
    live = [Path(a.uri) for a in artifacts if a.state == StoredArtifact.LIVE and Path(a.uri).is_relative_to(root)]
    return {path.relative_to(root).parent.as_posix(): path.relative_to(paths.var).as_posix() for path in live}


def _tasks(config: ModelConfig, image: str) -> dict[str, BaseNode]:
    """Return the night's tasks as containers, in their order, connected as the nodes of the model's pipeline are."""
    nodes = {node.id: node for node in create_nodes(_inputs(config))}
    before, tasks = tasks_of(config), {}
    for task in [*command_tasks_of(config), VERDICT]:
        node = nodes.get(task)
        inputs = {
            key: tasks[channel.producer_component_id].outputs[channel.output_key]
            for key, channel in (node.inputs.items() if node else ())
        }
        outputs = {key: channel.type for key, channel in (node.outputs.items() if node else ())}
        # Argo, which runs Kubeflow's containers, takes no underscores.
        tasks[task] = _container(config.name, task, image, inputs, outputs).with_id(task.replace("_", "-"))
        if task != VERDICT:  # Kubeflow runs the exit handler last
            tasks[task].add_upstream_nodes([tasks[name] for name in before[task] if name not in REVIEW])
    return tasks


def _container(
    model: str, task: str, image: str, inputs: Mapping[str, Any], outputs: Mapping[str, type[Artifact]]
) -> BaseNode:
    """Return a container that runs one task of the night."""
    parameters = PARAMETERS if task == "plan" else {}
    command: list[Any] = ["bin/pipeline", "run", task, "--model", model, "--run", InputValuePlaceholder("run")]
    for name in parameters:
        command += [f"--{name.replace('_', '-')}", InputValuePlaceholder(name)]
    command += chain.from_iterable(
        ("--output", f"{key}={{{{$.outputs.artifacts['{key}'].path}}}}") for key in sorted(outputs)
    )
    component = tfx.dsl.experimental.create_container_component(
        name=task,
        image=image,
        command=command,
        inputs={key: channel.type for key, channel in inputs.items()},
        outputs=dict(outputs),
        parameters=dict.fromkeys(["run", *parameters], str),
    )
    values = {name: RuntimeParameter(name=name, ptype=str, default=value) for name, value in parameters.items()}
    return component(**inputs, **values, run=RUN_ID)


def _inputs(config: ModelConfig) -> PipelineInputs:
    """Return inputs that give the graph of every night of the model. A task reads its own night's when it runs."""
    request = RunRequest(run_id="", trigger="command", requested_by="", time=utc_now(), release=True)
    return PipelineInputs(
        night=plan_night(config, request, now=utc_now(), code_version="", production_version=None),
        config=config,
        paths=Paths.from_environment(),
        snapshot=Path(),
        columns={},
        controls=[],
        schema_file=read_schema_text(config).path,
        production_model=None,
        run_fn=RUN_FN,
    )


def _pass_parameters(spec: dict[str, Any]) -> None:
    """Pass the run's parameters, with their defaults, to the tasks before the exit handler; TFX stops at the root."""
    for component in (spec["root"], spec["components"][DAG]):
        component["inputDefinitions"] = {
            "parameters": {
                name: {"parameterType": "STRING", "defaultValue": value, "isOptional": True}
                for name, value in PARAMETERS.items()
            }
        }
    passed = {name: {"componentInputParameter": name} for name in PARAMETERS}
    spec["root"]["dag"]["tasks"][DAG]["inputs"] = {"parameters": passed}


def _secrets(config: ModelConfig, state: str) -> dict[str, Any]:
    """Return the environment variables that come from the secret: the database's, and others if it has them."""
    connection = getattr(config.source, "connection", None)
    optional = [*CREDENTIALS.get(state.partition("://")[0], ())]
    optional += [f"AIRFLOW_CONN_{connection.upper()}"] if connection else []
    entries = [_from_secret([DATABASE], optional=False), *(_from_secret([name], optional=True) for name in optional)]
    return {"secretAsEnv": entries}


def _from_secret(names: list[str], *, optional: bool) -> dict[str, Any]:
    keys = [{"secretKey": name, "envVar": name} for name in names]
    return {"secretName": SECRET, "keyToEnv": keys, "optional": optional}
