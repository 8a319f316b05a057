"""From data to a green first night, by bin/new and bin/night, in a copy of the project."""

import os
import shutil
import subprocess

import pytest

from nightly.io.paths import ROOT, python_path
from tests.nightly.new_model.data import rentals

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with its own state, and with this project's environments."""
    left_out = shutil.ignore_patterns(".git", ".venv", ".cache", "var", "__pycache__", "docs", "tests")
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "project", ignore=left_out)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    return copy


def run(project, *command):
    environment = os.environ | {"PYTHONPATH": python_path(project), "NIGHTLY_VAR": str(project / "var")}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def diabetes():
    """scikit-learn's 442 patients: no time, no id, a number."""
    return pytest.importorskip("sklearn.datasets").load_diabetes(as_frame=True).frame.to_csv(index=False)


@pytest.mark.parametrize(
    ("name", "data", "label"),
    [
        pytest.param("bikes", rentals, "returned_late", id="binary, by time"),
        pytest.param("patients", diabetes, "target", id="number, without a time"),
    ],
)
def test_a_first_night_is_green(project, tmp_path, name, data, label):
    (tmp_path / "data.csv").write_text(data())
    status, output = run(project, "bin/new", name, str(tmp_path / "data.csv"), "--label", label, "--yes")
    assert status == 0 and f"bin/night {name}" in output, output
    status, output = run(project, "bin/night", name)
    assert status == 0 and "ACCEPTED" in output, output
