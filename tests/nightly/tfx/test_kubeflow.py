"""A model compiled for Kubeflow Pipelines: its graph, what its containers need, and their commands, run in order."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.components import load_component_from_file
from kfp.pipeline_spec import pipeline_spec_pb2

from nightly.cli import pipeline
from nightly.io.paths import ROOT, Paths
from nightly.models import load_config
from nightly.nights.steps import command_tasks_of, tasks_of
from nightly.records.release import ReleaseRecord
from nightly.records.tasks import REVIEW, VERDICT
from nightly.records.verdict import Outcome, Verdict
from nightly.tfx.kubeflow import DAG, compile_model

IMAGE, STATE = "registry.example.com/nightly-retrain:1", "s3://bucket/nightly"
ENVIRONMENT = {"NIGHTLY_STATE": STATE, "NIGHTLY_SERVING_REST": "serving:8501", "NIGHTLY_SERVING_GRPC": "serving:8500"}
PLACEHOLDER = re.compile(r"\{\{\$\.(inputs\.parameters|outputs\.artifacts)\['(\w+)'\](?:\.path)?\}\}")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The taxi model's pipeline, by the command."""
    output = tmp_path_factory.mktemp("kubeflow") / "taxi.yaml"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        assert pipeline.main(["compile", "taxi", "--to", "kubeflow", "--image", IMAGE, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def spec(file: Path) -> dict[str, Any]:
    return next(yaml.safe_load_all(file.read_text()))


def test_kubeflow_reads_the_pipeline_and_its_parameters(file):
    inputs = load_component_from_file(str(file)).component_spec.inputs
    assert {name: (entry.default, entry.optional) for name, entry in inputs.items()} == {
        "as_of": ("", True),
        "release": ("no", True),
    }


@pytest.mark.slow
def test_pipeline_containers_and_secrets_are_messages_of_kubeflow(file):
    text = file.read_text()
    assert "&id" not in text and "*id" not in text, "an alias, which a parser of Kubeflow's may not know"
    spec, platform = yaml.safe_load_all(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    deployment = json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = {component["executorLabel"] for name, component in spec["components"].items() if name != DAG}
    assert executors == set(deployment.executors)
    assert executors == set(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])


@pytest.mark.parametrize("model", ["taxi", "complaints"])
def test_the_tasks_and_their_order_are_those_of_a_night(model):
    config = load_config(model)
    spec = next(yaml.safe_load_all(compile_model(config, IMAGE, STATE)))
    tasks = spec["components"][DAG]["dag"]["tasks"]
    assert set(tasks) == {task.replace("_", "-") for task in command_tasks_of(config)}
    for task, before in tasks_of(config).items():
        if task not in (*REVIEW, VERDICT):
            direct = {name.replace("_", "-") for name in before if name not in REVIEW}
            assert direct <= set(tasks[task.replace("_", "-")].get("dependentTasks", [])), task
    assert all(re.fullmatch("[a-z0-9][-a-z0-9]*", name) for name in [*tasks, spec["pipelineInfo"]["name"]])


def test_the_verdict_runs_at_the_end_of_every_night(spec):
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {DAG, VERDICT}
    assert tasks[VERDICT]["dependentTasks"] == [DAG]
    assert tasks[VERDICT]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_artifacts_connect_the_tasks_as_in_the_models_pipeline(spec):
    inputs = spec["components"][DAG]["dag"]["tasks"]["release"]["inputs"]["artifacts"]
    producers = {key: tuple(entry["taskOutputArtifact"].values()) for key, entry in inputs.items()}
    assert producers == {
        "model": ("servable", "infra-validator"),
        "evaluation": ("evaluation", "evaluator"),
        "data_blessing": ("blessing", "data-gate"),
        "model_blessing": ("blessing", "model-gate"),
        "infra_blessing": ("blessing", "infra-validator"),
    }
    output = spec["components"]["data-gate"]["outputDefinitions"]["artifacts"]["blessing"]["artifactType"]
    assert yaml.safe_load(output["instanceSchema"])["title"] == "nightly.DataBlessing"


def test_a_container_has_the_image_the_state_and_the_secret_and_no_path_of_this_machine(file, spec):
    text = file.read_text()
    paths = {str(ROOT), str(Paths.from_environment().var), str(Path.home()), tempfile.gettempdir(), str(Path.cwd())}
    assert [path for path in paths if path in text] == []
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert container["image"] == IMAGE
        assert {entry["name"]: entry["value"] for entry in container["env"]} == ENVIRONMENT
        assert container["command"][:2] == ["bin/pipeline", "run"]
        assert not [word for word in container["command"] if word.startswith("/")]
    secrets = next(
        iter(list(yaml.safe_load_all(text))[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values())
    )
    required = [entry["keyToEnv"] for entry in secrets["secretAsEnv"] if not entry["optional"]]
    assert required == [[{"secretKey": "NIGHTLY_METADATA_DB", "envVar": "NIGHTLY_METADATA_DB"}]]
    optional = {entry["keyToEnv"][0]["envVar"] for entry in secrets["secretAsEnv"] if entry["optional"]}
    assert optional >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AIRFLOW_CONN_TAXI_FILES"}


@pytest.mark.parametrize(
    ("state", "model", "message"),
    [
        ("s3://bucket", "taxy", "there is no model 'taxy'"),
        (
            "/srv/nightly",
            "taxi",
            "the state of taxi is the folder /srv/nightly, which containers on other hosts cannot",
        ),
        ("", "taxi", "set NIGHTLY_STATE to s3://…, gs://… or az://…"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_sentence(monkeypatch, capsys, tmp_path, state, model, message):
    monkeypatch.setenv("NIGHTLY_STATE", state)
    output = tmp_path / "pipeline.yaml"
    status = pipeline.main(["compile", model, "--to", "kubeflow", "--image", IMAGE, "--output", str(output)])
    error = capsys.readouterr().err
    assert (status, error.count("\n"), output.exists()) == (2, 1, False)
    assert error.startswith("bin/pipeline: error: ") and message in error


def commands(spec: dict[str, Any], parameters: dict[str, str], outputs: Path) -> dict[str, list[str]]:
    """Each container's command in an order that Kubeflow might choose, with its placeholders replaced as there."""

    def replaced(task: str, word: str) -> str:
        def value(match: re.Match[str]) -> str:
            kind, name = match.groups()
            return parameters[name] if kind == "inputs.parameters" else str(outputs / task / name)

        return PLACEHOLDER.sub(value, word)

    tasks, ordered = dict(spec["components"][DAG]["dag"]["tasks"]), {}
    while tasks:
        task = next(name for name, entry in tasks.items() if set(entry.get("dependentTasks", [])) <= set(ordered))
        ordered[task] = tasks.pop(task)
    executors = spec["deploymentSpec"]["executors"]
    words = {
        task: executors[spec["components"][task]["executorLabel"]]["container"]["command"]
        for task in [*ordered, VERDICT]
    }
    return {task: [replaced(task, word) for word in command] for task, command in words.items()}


PARAMETERS = {"run": "3f0c9c1e", "as_of": "2014-02-01", "release": "yes"}


def run_night(spec: dict[str, Any], outputs: Path, before: Callable[[], object] = lambda: None) -> None:
    """Run the command of each container in a process of its own, in this environment, and `before` before each."""
    for task, command in commands(spec, PARAMETERS, outputs).items():
        before()
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{task}: {done.stdout}{done.stderr}"


def contents(spec: dict[str, Any], outputs: Path) -> dict[str, str]:
    """Output -> the path of its content in the state; every output of the pipeline has one."""
    written = {path.relative_to(outputs).as_posix(): path for path in outputs.glob("*/*")}
    expected = {
        f"{name}/{key}"
        for name, component in spec["components"].items()
        for key in component.get("outputDefinitions", {}).get("artifacts", {})
    }
    assert set(written) == expected
    return {name: json.loads(path.read_text())["content"] for name, path in written.items()}


@pytest.mark.campaign
@pytest.mark.timeout(3000)
@pytest.mark.integration
def test_the_containers_commands_run_a_whole_night_in_their_order(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_STATE", str(tmp_path / "state"))
    state = Paths.from_environment()
    run_night(spec, tmp_path / "outputs")
    verdict = Verdict.load(state.night("taxi", PARAMETERS["run"]) / "verdict.json")
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    assert ReleaseRecord.load(state.releases / "taxi" / f"{verdict.version}.json").run_id == PARAMETERS["run"]
    assert [
        name for name, path in contents(spec, tmp_path / "outputs").items() if not (state.var / path).exists()
    ] == []


@pytest.mark.campaign
@pytest.mark.timeout(3000)
@pytest.mark.integration
def test_with_the_state_in_a_bucket_no_container_needs_anything_of_another_ones_disk(spec, hosts, tmp_path):
    run_night(spec, tmp_path / "outputs", before=lambda: hosts.lose("A"))
    hosts.lose("A")
    with hosts.session("A") as paths:
        verdict = Verdict.load(paths.night("taxi", PARAMETERS["run"]) / "verdict.json")
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    published = hosts.keys("manifests/")
    missing = [
        name for name, path in contents(spec, tmp_path / "outputs").items() if f"manifests/{path}.json" not in published
    ]
    assert missing == []
