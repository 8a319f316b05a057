"""A new model, by the steps of the README: its schema is inferred, and a night accepts it as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nightly.io.paths import python_path
from nightly.schemas.curated import read_schema

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path, trips):
    """The project with a model of its own, `tips`, whose file has other headers than the model's columns."""
    ignore = shutil.ignore_patterns("__pycache__", "complaints")
    for folder in ("include", "client", "server", "bin"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "airflow.env", tmp_path)
    taxi = tmp_path / "include/models/taxi"
    model = taxi.rename(taxi.with_name("tips"))
    (model / "schema.pbtxt").unlink()
    file = tmp_path / "Trips.csv"
    headers = {"fare": "Fare (USD)", "payment_type": "Payment Type", "trip_miles": "TRIP-MILES"}
    trips.rename(columns=headers).to_csv(file, index=False)
    config = (model / "config.toml").read_text()
    config = config.replace('path = "package:tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"', "")
    config = config.replace("[source]", f'[source]\npath = "{file}"')
    (model / "config.toml").write_text(config.replace("[data]", '[data]\nrename = { "Fare (USD)" = "fare" }', 1))
    return tmp_path


def run(project, *words, status=0):
    environment = os.environ | {"NIGHTLY_VAR": str(project / "var"), "NIGHTLY_ML_PYTHON": sys.executable}
    environment["PYTHONPATH"] = python_path(project)
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_night_of_a_new_model_accepts_the_inferred_schema_as_it_is(project):
    infer = ["bin/data", "schema", "infer", "Trips.csv", "--model", "tips", "--out"]
    file = project / "include/models/tips/schema.pbtxt"
    run(project, *infer, str(file.relative_to(project)))
    schema = read_schema(file)
    features = {feature.name: feature for feature in schema.feature}
    assert {"fare", "payment_type", "trip_miles"} <= features.keys()
    assert not {"tips", "trip_start_timestamp", "pickup_census_tract"} & features.keys(), "ignored columns"
    assert list(schema.default_environment) == ["TRAINING", "SERVING"]
    assert {name for name, one in features.items() if one.not_in_environment} == {"big_tipper"}
    for feature in features.values():
        assert feature.HasField("drift_comparator"), feature.name
        assert feature.HasField("skew_comparator"), feature.name
    assert features["payment_type"].drift_comparator.HasField("infinity_norm")
    assert features["fare"].drift_comparator.HasField("jensen_shannon_divergence")

    for out in (file, file.parent):
        assert "schema.pbtxt exists" in run(project, *infer, str(out), status=2)
    said = run(project, "bin/night", "tips", "--as-of", "2016-03-01")
    assert "the data gate passed" in said
    assert "the model gate passed" in said


def test_the_statistics_of_a_new_model_are_as_its_nights_read_them(project):
    code = "from nightly.data import statistics; print(sorted(f.path.step[0] for f in " + (
        "statistics('Trips.csv', model='tips').datasets[0].features))"
    )
    assert "'fare'" in run(project, sys.executable, "-c", code)
    said = run(project, "bin/data", "validate", "Trips.csv", "--model", "tips", status=2)
    assert "include/models/tips/schema.pbtxt` writes a first one" in said
