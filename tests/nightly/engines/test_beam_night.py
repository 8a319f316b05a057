"""A night of real taxi trips on a multi-process Beam runner, against the same nodes in this process."""

import json
import subprocess
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from nightly.io.paths import ROOT, Paths, python_path
from nightly.models import config_of
from nightly.records.night import Night
from nightly.tfx.components.evaluator import SideBySideEvaluator
from nightly.tfx.components.examples import SnapshotExampleGen
from nightly.tfx.components.statistics import InProcessStatisticsGen
from nightly.tfx.components.transform import InProcessTransform
from nightly.tfx.pipeline import PREPROCESSING_FN
from tests.support import beam_same

pytestmark = [pytest.mark.integration, pytest.mark.slow]


PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def project_with(folder: Path, beam_args: list[str]) -> Path:
    """A copy of the project whose model taxi runs on Beam."""
    subprocess.run(
        ["cp", "-r", *(ROOT / name for name in ("include", "bin", "client", "server", "airflow.env")), folder],
        check=True,
    )
    (folder / ".venv").symlink_to(ROOT / ".venv")
    with (folder / "include/models/taxi/config.toml").open("a") as config:
        config.write(f'\n[pipeline]\nengine = "beam"\nbeam_args = {json.dumps(beam_args)}\n')
    return folder


def run(project: Path, var: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(var), "NIGHTLY_VAR": str(var)}
    environment["PYTHONPATH"] = python_path(project)  # the environment is this project's, the code is the copy's
    command = [project / "bin/night", "taxi", "--as-of", "2015-05-01", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def on_beam(tmp_path_factory):
    """Where the night's pipeline has its artifacts, and its snapshot: what the runner's processes have made."""
    project = project_with(tmp_path_factory.mktemp("project"), PROCESSES)
    var = tmp_path_factory.mktemp("var")
    done = run(project, var, "--until", "evaluator", "--train-steps", "30")
    assert done.returncode == 0, done.stderr[-5000:]
    return var / "pipeline/taxi", next((var / "snapshots/taxi").glob("[!.]*/"))


@pytest.fixture(scope="module")
def do(tmp_path_factory, on_beam):
    """Runs a node in this process, with the parameters that the night had; gives its outputs."""
    root, snapshot = on_beam
    config = config_of(Night.load(next(root.parent.parent.glob("nights/taxi/*/request.json"))))
    manifest = json.loads((snapshot / "manifest.json").read_text())
    columns = [name for name in manifest["columns"] if name not in config.data.ignore]
    label = config.data.label
    parameters = {
        SnapshotExampleGen: {
            "snapshot": str(snapshot),
            "columns": "\n".join(columns),
            "id_columns": "\n".join(manifest["columns"]),
            "label": label.column,
            "eval_percent": config.data.eval_percent,
        },
        InProcessTransform: {
            "preprocessing_fn": PREPROCESSING_FN,
            "custom_config": json.dumps({"model": "taxi"}),
        },
        SideBySideEvaluator: {
            "label": label.model_dump_json(),
            "metrics": json.dumps(sorted(config.model_gate.metrics)),
            "slices": json.dumps(config.model_gate.slices),
            "production_version": 0,
        },
    }

    def do(node, inputs, **outputs):
        for name, artifact in outputs.items():
            artifact.uri = str(tmp_path_factory.mktemp(name))
        executor = node.EXECUTOR_SPEC.executor_class()
        given = {name: [artifact] for name, artifact in inputs.items()}
        executor.Do(given, {name: [artifact] for name, artifact in outputs.items()}, parameters.get(node, {}))
        return {name: Path(artifact.uri) for name, artifact in outputs.items()}

    return do


def artifact(kind, uri: Path, splits=None):
    made = kind()
    made.uri = str(uri)
    if splits:
        made.split_names = json.dumps(splits)
    return made


def output(on_beam, node: str, name: str) -> Path:
    (folder,) = (on_beam[0] / node / name).iterdir()
    return folder


@pytest.fixture(scope="module")
def examples(on_beam):
    return artifact(standard_artifacts.Examples, output(on_beam, "examples", "examples"), ["train", "eval"])


def test_examples_are_the_same_rows_on_the_same_sides(on_beam, do):
    here = do(SnapshotExampleGen, {}, examples=standard_artifacts.Examples())["examples"]
    beam_same.assert_examples(here, output(on_beam, "examples", "examples"))


def test_statistics_are_the_same(on_beam, do, examples):
    here = do(InProcessStatisticsGen, {"examples": examples}, statistics=standard_artifacts.ExampleStatistics())
    beam_same.assert_statistics(here["statistics"], output(on_beam, "statistics", "statistics"))


def test_the_transform_finds_the_same_and_makes_the_same_examples(on_beam, do, examples):
    schema = artifact(standard_artifacts.Schema, output(on_beam, "schema", "schema"))
    here = do(
        InProcessTransform,
        {"examples": examples, "schema": schema},
        transform_graph=standard_artifacts.TransformGraph(),
        transformed_examples=standard_artifacts.Examples(),
    )
    graph, transformed = (output(on_beam, "transform", name) for name in ("transform_graph", "transformed_examples"))
    beam_same.assert_transform(here["transform_graph"], graph, here["transformed_examples"], transformed)


def test_the_evaluation_that_the_gate_reads_is_the_same(on_beam, do, examples):
    model = artifact(standard_artifacts.Model, output(on_beam, "trainer", "model"))
    here = do(
        SideBySideEvaluator, {"examples": examples, "model": model}, evaluation=standard_artifacts.ModelEvaluation()
    )
    beam_same.assert_evaluation(here["evaluation"], output(on_beam, "evaluator", "evaluation"))


def test_a_wrong_option_stops_the_night_before_its_download(tmp_path):
    project = project_with(tmp_path, ["--runner=DataflowRunner", "--project=my-project"])
    done = run(project, tmp_path / "var")
    assert done.returncode == 2
    assert "region is missing: write --region=" in done.stderr
    assert not Paths.from_environment({"NIGHTLY_VAR": str(tmp_path / "var")}).downloads.exists()
