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


def test_a_first_night_is_green(project, tmp_path):
    """make bench ARGS=new_model does the same for public tables of every kind."""
    (tmp_path / "data.csv").write_text(rentals())
    status, output = run(project, "bin/new", "bikes", str(tmp_path / "data.csv"), "--label", "returned_late", "--yes")
    assert status == 0 and "bin/night bikes" in output, output
    status, output = run(project, "bin/night", "bikes")
    assert status == 0 and "ACCEPTED" in output, output
