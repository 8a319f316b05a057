"""The project's code in a warm process is what its files are now; tried on a small project, in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nightly.io.paths import ROOT, python_path
from nightly.runtime import preloaded
from nightly.runtime.preloaded import PREFIXES

NEEDED = (
    "runtime/preloaded.py",
    "runtime/processes.py",
    "records/base.py",
    "io/atomic.py",
    "io/code.py",
    "io/errors.py",
    "io/hints.py",
    "io/paths.py",
    "io/variables.py",
)
TRY = """
import json, sys
from nightly.runtime import preloaded

preloaded.MODULES = ("nightly.step",)
code = preloaded.ProjectCode()
for line in sys.stdin:
    code.refresh()
    step = sys.modules.get("nightly.step")
    print(json.dumps(step and [step.VALUE, step.IMPORTED]), flush=True)
"""
STEP = """
import time
try:
    from nightly.other import VALUE
except ModuleNotFoundError:
    VALUE = 4444
IMPORTED = time.time_ns()
"""

LOADED = """
import json, os, sys
from importlib import import_module
from nightly.runtime.preloaded import MODULES

for name in MODULES:
    import_module(name)
loaded = [(name, getattr(module, "__file__", None) or "") for name, module in sys.modules.items()]
print(json.dumps([(name, path) for name, path in loaded if path.startswith(os.getcwd())]))
"""


@pytest.fixture
def project(tmp_path):
    """The folder of the small project, and a function that refreshes: the step's value, and when it was imported."""
    package = tmp_path / "include/nightly"
    for name in NEEDED:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "include/nightly" / name, package / name)
        (package / name).with_name("__init__.py").touch()
    (tmp_path / "include/nightly/__init__.py").touch()
    (tmp_path / "include/nightly/step.py").write_text(STEP)
    (tmp_path / "include/nightly/other.py").write_text("from nightly_client.value import VALUE\n")
    (tmp_path / "client/nightly_client").mkdir(parents=True)
    (tmp_path / "client/nightly_client/__init__.py").touch()
    (tmp_path / "client/nightly_client/value.py").write_text("VALUE = 1\n")
    process = subprocess.Popen(
        [sys.executable, "-c", TRY],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def refreshed():
        print(file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    with process:
        yield tmp_path, refreshed
        process.stdin.close()


def test_an_edit_of_any_file_holds_from_the_next_step_on(project):
    folder, refreshed = project
    assert refreshed()[0] == 1
    (folder / "include/nightly/other.py").write_text("VALUE = 22\n")
    assert refreshed()[0] == 22


def test_an_edit_of_the_client_library_holds_too(project):
    folder, refreshed = project
    assert refreshed()[0] == 1
    (folder / "client/nightly_client/value.py").write_text("VALUE = 55555\n")
    assert refreshed()[0] == 55555


def test_nothing_is_imported_again_where_nothing_changed(project):
    _, refreshed = project
    refreshed()
    time.sleep(0.2)  # a file as new as the import counts as changed
    assert refreshed() == refreshed() == refreshed()


def test_code_that_cannot_be_imported_is_left_to_the_step_and_mended_code_is_taken(project):
    folder, refreshed = project
    refreshed()
    (folder / "include/nightly/other.py").write_text("VALUE = \n")
    assert refreshed() is None
    (folder / "include/nightly/other.py").write_text("VALUE = 333\n")
    assert refreshed()[0] == 333


def test_a_file_that_is_gone_is_seen(project):
    folder, refreshed = project
    refreshed()
    (folder / "include/nightly/other.py").unlink()
    assert refreshed()[0] == 4444


@pytest.mark.slow
def test_every_module_of_the_project_that_steps_import_is_watched():
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = [name for name, path in json.loads(done.stdout.splitlines()[-1]) if not path.startswith(sys.prefix)]
    assert "nightly.tfx.runner" in ours
    assert [name for name in ours if not f"{name}.".startswith(PREFIXES)] == []


def ended(work) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(preloaded.fork(work), 0)[1])


def test_a_fork_is_in_its_main_thread_so_that_it_can_take_signals():
    def work():
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(30)

    assert ended(work) == 7


def test_a_fork_whose_work_fails_or_returns_ends_with_1_and_runs_nothing_of_its_parents():
    assert ended(lambda: 1 / 0) == ended(lambda: None) == 1


def test_where_nothing_can_be_forked_the_caller_is_told(monkeypatch):
    def refused() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(BlockingIOError):
        preloaded.fork(lambda: None)
