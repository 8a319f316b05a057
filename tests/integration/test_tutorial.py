"""docs/tutorial.md: its files, its commands and the verdicts it promises, in a copy of the project."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nightly.io.paths import ROOT, python_path

TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
BLOCK = re.compile(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', re.S | re.M)
ELSEWHERE = ("make setup", "make up", "curl ")  # set-up, Airflow and the model server have tests of their own


@pytest.fixture
def project(tmp_path):
    """A copy of the project with its own home and state, and with this project's environments."""
    left_out = shutil.ignore_patterns(".git", ".venv", ".cache", "var", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "project", ignore=left_out)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    return copy


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(project, tmp_path):
    home = tmp_path / "home"
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": python_path(project), "NIGHTLY_WARM": "0"}
    environment = {name: value for name, value in environment.items() if name != "NIGHTLY_VAR"}
    output, verdicts = "", 0
    for kind, title, body in BLOCK.findall(TUTORIAL):
        if title:
            file = home / title[2:] if title.startswith("~/") else project / title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body)
        elif kind == "bash" and not body.startswith(ELSEWHERE):
            done = subprocess.run(["bash", "-c", body], cwd=project, env=environment, capture_output=True, text=True)
            output = done.stdout + done.stderr
            assert "Traceback" not in output and done.returncode in (0, 3), output
        elif not kind:  # what the commands before it print
            verdicts += 1
            assert re.search(re.sub(r"\d{10}", r"\\d{10}", re.escape(body.strip())), output), output
    assert verdicts == 2
    assert len(list(Path(project / "var/serving/bikes").glob("[0-9]*"))) == 1
