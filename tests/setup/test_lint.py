"""The house rules: `make lint` fails where one is broken, and pre-commit has the same checks."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from setup import environments

ROOT = Path(__file__).resolve().parents[2]
TOOLS = environments.VENVS / "lint/bin"
PATHS = ("include", "plugins", "client", "server", "local")
LAYERS = "Rooms of nightly import only downwards"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project's code, to break rules in."""
    copy = tmp_path_factory.mktemp("project")
    for name in PATHS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint_imports(project: Path) -> str:
    command = ["env", f"PYTHONPATH={':'.join(PATHS[:4])}", TOOLS / "lint-imports", "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == ("BROKEN" in done.stdout), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("include/nightly/io/broken.py", "nightly.records.base", LAYERS),
        ("include/nightly/records/broken.py", "nightly.release.store", LAYERS),
        ("include/nightly/release/broken.py", "nightly.serving.verify", LAYERS),
        ("include/nightly/tfx/broken.py", "nightly.runtime.worker", LAYERS),
        ("include/nightly/cli/broken.py", "nightly_airflow.retrain", "nightly does not know Airflow"),
        ("plugins/nightly_airflow/broken.py", "nightly.tfx.runner", "The Airflow side does not reach"),
        ("server/nightly_server/broken.py", "nightly.io.paths", "The server and the client import nothing"),
        ("client/nightly_client/broken.py", "nightly_server.flags", "The server and the client do not know each other"),
        ("include/nightly/cli/broken.py", "nightly_server.flags", "Only the inspection of a version"),
    ],
)
def test_an_import_against_the_order_of_rooms_fails(project, module, imported, contract):
    file = project / module
    file.write_text(f"import {imported}\n")
    try:
        assert re.search(rf"^{re.escape(contract)}.* BROKEN", lint_imports(project), re.M)
    finally:
        file.unlink()


def test_a_new_room_needs_a_layer(project):
    folder = project / "include/nightly/attic"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    try:
        assert "attic" in lint_imports(project)
    finally:
        shutil.rmtree(folder)


def test_the_package_has_one_name(project):
    file = project / "broken.py"
    file.write_text("from include.nightly.io import paths\n\nprint(paths)\n")
    done = subprocess.run([TOOLS / "ruff", "check", "--no-cache", file], cwd=project, capture_output=True, text=True)
    file.unlink()
    assert done.returncode == 1 and "TID251" in done.stdout


def test_pre_commit_has_the_checks_of_make_lint():
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.M)[1]
    checks = [line.strip(" \t@").replace("$(LINT)", ".venv/lint/bin") for line in recipe.splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == checks
    assert all(hook["pass_filenames"] is False for hook in repository["hooks"])


def test_make_lists_every_target_with_what_it_does():
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make (\S+) +\S", done.stdout, re.M)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert listed == targets
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert sorted(phony.split()) == sorted(targets)
