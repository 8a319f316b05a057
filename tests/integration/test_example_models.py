"""Models of classes through a real scheduler: images of digits, trained again on all rows, and products by their text.

They are no part of the project, so a copy of it has them. bin/test -m campaign runs this.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from nightly.io.paths import ROOT, Paths, python_path
from nightly.records.verdict import Outcome
from tests.support.data import COMPLAINTS

pytestmark = pytest.mark.campaign

NIGHTS = {"digits": "2016-02-20,2016-03-01", "products": "2016-03-05,2016-03-14"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What became of two nights of each model, by model."""
    if not COMPLAINTS.exists():
        pytest.skip(f"{COMPLAINTS} is not here")
    folder = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns(".git", ".venv", ".cache", "var", "__pycache__", "docs")
    copy = shutil.copytree(ROOT, folder / "project", ignore=left_out)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    ml_python = str(Paths.from_environment().ml_python)
    asked = [f"{model}={days}" for model, days in NIGHTS.items()]
    # Without the tests' own settings of Airflow, which name this checkout's DAGs.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    for code, command in (
        (ROOT, [ml_python, "-m", "tests.support.example_models", str(copy)]),
        (copy, [sys.executable, "-m", "tests.support.airflow_nights_of", str(folder / "var"), *asked]),
    ):
        environment = inherited | {"PYTHONPATH": python_path(code)}
        done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"model"')]
    return {model: [line for line in lines if line["model"] == model] for model in NIGHTS}


@pytest.mark.parametrize("model", NIGHTS)
def test_both_nights_release_and_are_served(ended, model):
    nights = ended[model]
    assert [night["outcome"] for night in nights] == [Outcome.RELEASED] * 2, [night["summary"] for night in nights]
    for night in nights:
        assert all(state in ("success", "skipped") for state in night["states"].values()), night["states"]
        assert night["metrics"]["accuracy"] > 0.9
        served = {status["version"]: status["state"] for status in night["served"]["model_version_status"]}
        assert served[str(night["version"])] == "AVAILABLE"


def test_the_page_draws_the_classes(ended):
    for nights in ended.values():
        for words in ("<h2>The label</h2>", "Confusion", "Beside a constant answer"):
            assert words in nights[1]["page"], words


def test_the_digits_are_trained_again_on_all_rows(ended):
    for night in ended["digits"]:
        assert night["summary"].endswith("trained again on all rows after its gate")
        assert night["states"]["refit"] == "success"
