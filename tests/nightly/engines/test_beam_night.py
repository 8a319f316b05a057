"""A night of real taxi trips on each Beam engine that is here, against the same nodes in this process."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
from tfx.types import standard_artifacts

from nightly.io.paths import ROOT, Paths, python_path
from nightly.models import config_of
from nightly.records.evaluation import Evaluation
from nightly.records.night import Night
from nightly.tfx.components.evaluator import SideBySideEvaluator
from nightly.tfx.components.examples import SnapshotExampleGen
from nightly.tfx.components.statistics import InProcessStatisticsGen
from nightly.tfx.components.transform import InProcessTransform
from nightly.tfx.pipeline import PREPROCESSING_FN
from tests.support import beam_engines

pytestmark = [pytest.mark.integration, pytest.mark.slow]


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


def run(project: Path, var: Path, *words: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(var), "NIGHTLY_VAR": str(var)}
    environment["PYTHONPATH"] = python_path(project)  # the environment is this project's, the code is the copy's
    command = [*prefix, project / "bin/night", "taxi", "--as-of", "2015-05-01", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(
    scope="module",
    params=["processes", *(pytest.param(name, marks=pytest.mark.campaign) for name in beam_engines.ENGINES)],
)
def on_beam(request, tmp_path_factory):
    """Where the night's pipeline has its artifacts, and its snapshot: what the engine's workers have made."""
    var = tmp_path_factory.mktemp("var")
    with beam_engines.running(request.param, tmp_path_factory.mktemp("engine")) as engine:
        project = project_with(tmp_path_factory.mktemp("project"), engine.args)
        done = run(project, var, "--until", "evaluator", "--train-steps", "30", prefix=engine.prefix)
        assert done.returncode == 0, done.stderr[-5000:]
        engine.check()
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


def records(folder: Path, split: str) -> list[bytes]:
    """The split's examples, sorted: their order is the runner's."""
    found = []
    for path in (folder / f"Split-{split}").iterdir():
        read = tf.data.TFRecordDataset([str(path)], "GZIP" if path.suffix == ".gz" else "").as_numpy_iterator()
        found += [tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in read]
    return sorted(found)


def test_examples_are_the_same_rows_on_the_same_sides(on_beam, do):
    here = do(SnapshotExampleGen, {}, examples=standard_artifacts.Examples())["examples"]
    there = output(on_beam, "examples", "examples")
    for split in ("train", "eval"):
        assert records(there, split) == records(here, split), split
    names = [path.name for path in (there / "Split-train").iterdir()]
    assert names and all(name.startswith("data_tfrecord-0") for name in names)


def test_statistics_are_the_same(on_beam, do, examples):
    here = do(InProcessStatisticsGen, {"examples": examples}, statistics=standard_artifacts.ExampleStatistics())
    for split in ("train", "eval"):
        file = f"Split-{split}/FeatureStats.pb"
        (ours,) = tfdv.load_stats_binary(str(here["statistics"] / file)).datasets
        (theirs,) = tfdv.load_stats_binary(str(output(on_beam, "statistics", "statistics") / file)).datasets
        assert ours.num_examples == theirs.num_examples > 0
        others = {feature.path.step[0]: feature for feature in theirs.features}
        assert others.keys() == {feature.path.step[0] for feature in ours.features}
        for feature in ours.features:
            kind = feature.WhichOneof("stats")
            mine, other = getattr(feature, kind), getattr(others[feature.path.step[0]], kind)
            for name in ("num_non_missing", "num_missing", "tot_num_values"):
                assert getattr(mine.common_stats, name) == getattr(other.common_stats, name)
            if kind == "num_stats":  # quantiles are TFDV's approximation
                for name, tolerance in {"mean": 1e-6, "std_dev": 1e-6, "min": 0, "max": 0, "median": 0.02}.items():
                    assert getattr(mine, name) == pytest.approx(getattr(other, name), rel=tolerance), (
                        feature.path,
                        name,
                    )
            else:
                assert mine.unique == other.unique
                assert {(v.value, v.frequency) for v in mine.top_values} == {
                    (v.value, v.frequency) for v in other.top_values
                }


def test_the_transform_finds_the_same_and_makes_the_same_examples(on_beam, do, examples):
    schema = artifact(standard_artifacts.Schema, output(on_beam, "schema", "schema"))
    here = do(
        InProcessTransform,
        {"examples": examples, "schema": schema},
        transform_graph=standard_artifacts.TransformGraph(),
        transformed_examples=standard_artifacts.Examples(),
    )
    assets = "transform_fn/assets"
    ours = {p.name: p.read_bytes() for p in (here["transform_graph"] / assets).iterdir()}
    theirs = {p.name: p.read_bytes() for p in (output(on_beam, "transform", "transform_graph") / assets).iterdir()}
    assert ours == theirs and ours
    for split in ("train", "eval"):
        mine, other = (
            [tf.train.Example.FromString(record) for record in records(folder, split)]
            for folder in (here["transformed_examples"], output(on_beam, "transform", "transformed_examples"))
        )
        assert len(mine) == len(other) > 0
        assert mine[0].features.feature.keys() == other[0].features.feature.keys()
        for name in mine[0].features.feature:
            assert values(mine, name) == pytest.approx(values(other, name), abs=1e-5), name


def values(examples: list[tf.train.Example], name: str) -> list[float]:
    """A feature's values, sorted: the order of the rows is the runner's."""
    features = [example.features.feature[name] for example in examples]
    return sorted(value for f in features for value in (*f.int64_list.value, *f.float_list.value))


def test_the_evaluation_that_the_gate_reads_is_the_same(on_beam, do, examples):
    model = artifact(standard_artifacts.Model, output(on_beam, "trainer", "model"))
    here = do(
        SideBySideEvaluator, {"examples": examples, "model": model}, evaluation=standard_artifacts.ModelEvaluation()
    )["evaluation"]
    there = output(on_beam, "evaluator", "evaluation")
    ours, theirs = (Evaluation.load(folder / "evaluation.json") for folder in (here, there))
    assert ours.examples == theirs.examples and len(ours.examples) >= 5
    assert ours.candidate.keys() == theirs.candidate.keys()
    for key, figures in ours.candidate.items():
        assert figures == pytest.approx(theirs.candidate[key], abs=1e-6), key
    assert len(tfma.load_eval_result(str(there)).slicing_metrics) == len(ours.examples)


def test_a_wrong_option_stops_the_night_before_its_download(tmp_path):
    project = project_with(tmp_path, ["--runner=DataflowRunner", "--project=my-project"])
    done = run(project, tmp_path / "var")
    assert done.returncode == 2
    assert "region is missing: write --region=" in done.stderr
    assert not Paths.from_environment({"NIGHTLY_VAR": str(tmp_path / "var")}).downloads.exists()
