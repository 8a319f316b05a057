"""The project's code in a warm process is what its files are now; tried on a small project, in a process of its own."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from include.contracts.places import ROOT

NEEDED = ("pipeline/preloaded.py", "contracts/base.py", "contracts/code.py", "contracts/places.py")
TRY = """
import sys
from include.pipeline import preloaded

preloaded.STEPS = ("include.step",)
code = preloaded.ProjectCode()
for line in sys.stdin:
    code.refresh()
    step = sys.modules.get("include.step")
    print(step and (step.VALUE, id(step)), flush=True)
"""


@pytest.fixture
def project(tmp_path):
    """The folder of the small project, and a function that refreshes: the step's value, and which module it is of."""
    for name in NEEDED:
        (tmp_path / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "include" / name, tmp_path / "include" / name)
        (tmp_path / "include" / name).with_name("__init__.py").touch()
    (tmp_path / "include/__init__.py").touch()
    write(tmp_path, "from include.other import VALUE\n", "VALUE = 1\n")
    process = subprocess.Popen(
        [sys.executable, "-c", TRY],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def refreshed():
        print(file=process.stdin, flush=True)
        return eval(process.stdout.readline())

    with process:
        yield tmp_path, refreshed
        process.stdin.close()


def write(project, step, other):
    (project / "include/step.py").write_text(step)
    (project / "include/other.py").write_text(other)


def test_an_edit_of_any_file_holds_from_the_next_step_on(project):
    folder, refreshed = project
    assert refreshed()[0] == 1
    (folder / "include/other.py").write_text("VALUE = 22\n")
    assert refreshed()[0] == 22


def test_nothing_is_imported_again_where_nothing_changed(project):
    _, refreshed = project
    refreshed()
    time.sleep(0.2)  # a file as new as the import counts as changed
    assert refreshed() == refreshed() == refreshed()


def test_code_that_cannot_be_imported_is_left_to_the_step_and_mended_code_is_taken(project):
    folder, refreshed = project
    refreshed()
    (folder / "include/other.py").write_text("VALUE = \n")
    assert refreshed() is None
    (folder / "include/other.py").write_text("VALUE = 333\n")
    assert refreshed()[0] == 333


def test_a_file_that_is_gone_is_seen(project):
    folder, refreshed = project
    refreshed()
    write(folder, "VALUE = 4444\n", "")
    (folder / "include/other.py").unlink()
    assert refreshed()[0] == 4444
