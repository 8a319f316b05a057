"""The hook runs steps in the real ML environment: in forks of the warm host, and in processes of their own."""

import contextlib
import itertools
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nightly.io.owned import owned_folder
from nightly.io.paths import ROOT, Paths, python_path
from nightly.io.polling import poll
from nightly_airflow.hooks.death import Watch
from nightly_airflow.hooks.ml import MLHook, MLHostNotStarted, MLProcessDied, MLStepFailed

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TASK = """
import logging, sys
from pathlib import Path
from nightly_airflow.hooks.ml import MLHook

MLHook().run("tests.support.steps:wait_for_a_file", Path(sys.argv[1]), logging.getLogger())
"""
MARK = """
import sys

def mark(night_folder, paths):
    preloaded = "nightly.tfx.runner" in sys.modules
    return {"preloaded": preloaded, "mark": getattr(sys.modules["nightly.io.paths"], "MARK", None)}
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """One host for the module; it ends by itself soon after the last test."""
    os.environ["NIGHTLY_HOST_IDLE_SECONDS"] = "20"
    yield replace(Paths.from_environment(), run=tmp_path_factory.mktemp("run"))
    del os.environ["NIGHTLY_HOST_IDLE_SECONDS"]


@pytest.fixture(params=["warm", "alone"])
def hook(request, paths):
    return MLHook(warm=request.param == "warm", paths=paths)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return logging.getLogger("task")


def gone(pid):
    """Whether the process ends within ten seconds; a zombie has ended."""

    def has_ended():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    return poll(has_ended, every=0.1, seconds=10)


def test_a_step_returns_its_result_and_streams_its_lines_at_their_levels(hook, log, caplog, tmp_path):
    first_seen = []

    class Watch(logging.Handler):
        def emit(self, record):
            first_seen.append(time.monotonic())

    log.addHandler(Watch())
    result = hook.run("tests.support.steps:speak", tmp_path, log)
    ended = time.monotonic()
    assert result["night"] == tmp_path.name
    assert result["tensorflow"] is hook.warm
    assert ended - first_seen[0] > 0.9, "lines come while the step runs, not at its end"
    said = [(record.levelname, record.message) for record in caplog.records]
    assert ("INFO", "first line") in said
    assert ("WARNING", "a warning") in said
    assert any(message == "a bare line" for _, message in said)
    assert any("remapper failed" in message for _, message in said), "a native error belongs into the step's log"


def test_a_step_that_fails_raises_its_own_error(hook, log, tmp_path):
    with pytest.raises(MLStepFailed, match="ValueError: the third column is missing"):
        hook.run("tests.support.steps:fail", tmp_path, log)


@pytest.mark.parametrize("full", [True, False])
def test_a_step_that_cannot_write_its_error_hands_it_over(hook, log, tmp_path, full_disk, monkeypatch, caplog, full):
    monkeypatch.setattr("nightly_airflow.hooks.ml.TEMPORARY", full_disk if full else tmp_path)
    with pytest.raises(MLStepFailed, match="ValueError: the third column is missing"):
        hook.run("tests.support.steps:fail", tmp_path, log)
    assert ("No space left on device" in caplog.text) is full and '{"error"' not in caplog.text


def test_a_step_that_cannot_write_its_result_hands_it_over(hook, log, tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr("nightly_airflow.hooks.ml.TEMPORARY", full_disk)
    assert hook.run("tests.support.steps:speak", tmp_path, log)["night"] == tmp_path.name


def test_a_step_whose_process_dies_is_told_with_the_signal(hook, log, tmp_path):
    with pytest.raises(MLProcessDied, match="SIGABRT"):
        hook.run("tests.support.steps:crash", tmp_path, log)


def test_the_death_of_a_step_is_described_by_all_that_is_known(hook, log, tmp_path):
    with pytest.raises(MLProcessDied) as died:
        hook.run("tests.support.steps:log_and_be_killed", tmp_path, log)
    text = str(died.value)
    assert re.search(r"was killed by SIGKILL after 0:00:0\d and left no result", text)
    assert "out-of-memory killer ended no process meanwhile; " in text
    assert text.endswith("Its last lines:\n  the last thing it did")
    assert re.search(r"It held up to [\d,]+ MB of memory", text)


def test_an_out_of_memory_kill_is_named(monkeypatch):
    kills = iter([3, 4])
    monkeypatch.setattr("nightly_airflow.hooks.death._oom_kills", lambda: next(kills))
    monkeypatch.setenv("NIGHTLY_POOL", "gpu")
    text = Watch().describe("trainer", -9, 3 << 30, [])
    assert "It held up to 3,072 MB" in text
    assert "out-of-memory killer ended 1 processes of this machine meanwhile: use a shorter look-back" in text
    assert "(the pool `gpu`)" in text


def running_step(hook, log, folder, step="tests.support.steps:wait_for_a_file"):
    """Run the step in a thread: the thread, its results or errors, and the ids of the step and of its parent."""
    outcome = []

    def run():
        try:
            outcome.append(hook.run(step, folder, log))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome, [int(pid) for pid in read_when_there(folder / "started").split()]


def read_when_there(path):
    text = poll(lambda: path.exists() and path.read_text(), every=0.05, seconds=120)
    assert text, f"{path} did not come"
    return text


def host_process(paths):
    """The process that listens: the one whose command line names the module, and that no other such one started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(paths.run) in (folder / "cmdline").read_text():
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    (listener,) = [pid for pid, parent in found.items() if parent not in found]
    return listener


def test_when_the_host_dies_its_steps_run_on_and_new_ones_start(paths, log, tmp_path):
    paths = replace(paths, run=tmp_path / "run")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    thread, outcome, pids = running_step(MLHook(paths=paths), log, first)
    os.kill(host_process(paths), signal.SIGKILL)
    (second / "go").touch()
    assert MLHook(paths=paths).run("tests.support.steps:wait_for_a_file", second, log)
    (first / "go").touch()
    thread.join(timeout=30)
    assert outcome == [{"pid": pids[0]}]


def test_a_host_that_does_not_answer_is_replaced(paths, log, tmp_path, monkeypatch):
    paths = replace(paths, run=tmp_path / "run")
    (tmp_path / "go").touch()
    MLHook(paths=paths).run("tests.support.steps:wait_for_a_file", tmp_path, log)
    stopped = host_process(paths)
    os.kill(stopped, signal.SIGSTOP)
    monkeypatch.setattr("nightly_airflow.hooks.ml.HANDSHAKE_SECONDS", 2)
    hook = MLHook(paths=paths)
    monkeypatch.setattr(hook, "_end_stuck_host", lambda c, end=hook._end_stuck_host: (end(c), monkeypatch.undo()))
    assert hook.run("tests.support.steps:wait_for_a_file", tmp_path, log)
    assert gone(stopped)


def test_a_step_may_take_longer_than_its_start(paths, log, tmp_path, monkeypatch):
    monkeypatch.setattr("nightly_airflow.hooks.ml.HANDSHAKE_SECONDS", 2)
    thread, outcome, pids = running_step(MLHook(paths=paths), log, tmp_path)
    thread.join(timeout=4)
    (tmp_path / "go").touch()
    thread.join(timeout=30)
    assert outcome == [{"pid": pids[0]}]


def test_a_host_that_was_stopped_before_it_listens_is_replaced(paths, log, tmp_path, monkeypatch):
    """It keeps the lock, so without that no task of any later night would ever have a host."""
    paths = replace(paths, run=tmp_path / "run")
    (tmp_path / "go").touch()
    hook = MLHook(paths=paths)
    hook.start_host()
    stopped = int(read_when_there(hook._socket.with_suffix(".lock")))
    os.kill(stopped, signal.SIGSTOP)
    assert not hook._socket.exists()
    monkeypatch.setattr("nightly_airflow.hooks.starting_host.STUCK_SECONDS", 3)
    assert hook.run("tests.support.steps:wait_for_a_file", tmp_path, log)
    assert gone(stopped)


def test_a_step_ends_with_its_supervisor(paths, log, tmp_path):
    thread, outcome, (step, supervisor) = running_step(MLHook(paths=paths), log, tmp_path)
    os.kill(supervisor, signal.SIGKILL)
    thread.join(timeout=30)
    assert isinstance(outcome[0], MLProcessDied)
    assert gone(step)


@pytest.mark.parametrize("warm", ["1", "0"])
def test_a_step_ends_with_its_task(paths, log, tmp_path, warm):
    task = subprocess.Popen(
        [sys.executable, "-c", TASK, str(tmp_path)],
        env=os.environ | {"NIGHTLY_WARM": warm, "NIGHTLY_RUN": str(paths.run), "PYTHONPATH": python_path()},
        cwd=ROOT,
    )
    step, _ = read_when_there(tmp_path / "started").split()
    task.kill()
    task.wait()
    assert gone(step)


def test_what_a_step_leaves_in_its_temporary_folder_goes_with_it(hook, log, tmp_path):
    folder = Path(hook.run("tests.support.steps:leave_files", tmp_path, log)["folder"])
    assert folder.name.startswith("nightly-step-leave_files-")
    assert not folder.exists()


def test_what_a_killed_task_left_goes_with_the_next_step_on_its_host(hook, log, tmp_path, monkeypatch):
    monkeypatch.setattr("nightly_airflow.hooks.ml.TEMPORARY", tmp_path)
    left, other = tmp_path / "nightly-step-trainer-killed", tmp_path / "of-another-program"
    for folder in (left, other):
        folder.mkdir()
        os.utime(folder, (0, 0))
    with owned_folder(tmp_path, "nightly-step-trainer-") as running:
        os.utime(running, (0, 0))
        assert hook.run("tests.support.steps:speak", tmp_path, log)
        assert not left.exists() and running.exists() and other.exists()


def test_kill_ends_the_step_and_what_it_started(hook, log, tmp_path):
    ended = []

    def run():
        with pytest.raises(MLProcessDied):
            hook.run("tests.support.steps:hang_with_a_child", tmp_path, log)
        ended.append(True)

    running = threading.Thread(target=run)
    running.start()
    pids = tmp_path / "pids"
    started = poll(lambda: pids.exists() and " " in pids.read_text(), every=0.1, seconds=60)
    hook.kill()
    running.join(timeout=20)
    assert started, "the step did not start its child"
    assert ended
    assert all(gone(pid) for pid in pids.read_text().split())


def test_steps_run_at_once_in_one_host(paths, log, tmp_path):
    results = []
    hooks = [MLHook(paths=paths) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda h=h: results.append(h.run("tests.support.steps:speak", tmp_path, log)))
        for h in hooks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result["pid"] for result in results}) == 4


def test_a_warm_start_takes_less_than_the_imports(paths, log, tmp_path):
    hook = MLHook(paths=paths)
    hook.run("tests.support.steps:speak", tmp_path, log)
    began = time.monotonic()
    hook.run("tests.support.steps:speak", tmp_path, log)
    assert time.monotonic() - began < 5, "a fork does not import TensorFlow again"


def test_an_edit_of_the_project_holds_from_the_next_step_on(paths, log, tmp_path, monkeypatch):
    project = tmp_path / "project"
    for package in ("include", "client"):
        shutil.copytree(ROOT / package, project / package)
    (project / "tests").mkdir()
    (project / "tests/__init__.py").touch()  # before the package of this name that the environment links to
    (project / "tests/marks.py").write_text(MARK)
    monkeypatch.setattr("nightly_airflow.hooks.ml.ROOT", project)
    hook = MLHook(paths=replace(paths, run=tmp_path / "run"))
    assert hook.run("tests.marks:mark", tmp_path, log) == {"preloaded": True, "mark": None}
    with (project / "include/nightly/io/paths.py").open("a") as file:
        file.write("\nMARK = 2\n")
    assert hook.run("tests.marks:mark", tmp_path, log) == {"preloaded": True, "mark": 2}


def test_only_its_user_can_open_the_host(paths, log, tmp_path):
    MLHook(paths=paths).run("tests.support.steps:speak", tmp_path, log)
    (path,) = (paths.run / "host").glob("*.sock")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_missing_ml_environment_says_what_to_do(paths, log, tmp_path):
    hook = MLHook(paths=replace(paths, ml_python=tmp_path / "no/python"))
    with pytest.raises(MLHostNotStarted, match="make setup"):
        hook.run("tests.support.steps:speak", tmp_path, log)


def test_a_host_that_cannot_start_says_why(paths, log, tmp_path):
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no module named tensorflow >&2; exit 3\n")
    broken.chmod(0o755)
    hook = MLHook(paths=replace(paths, ml_python=broken, run=tmp_path / "run"))
    with pytest.raises(MLHostNotStarted, match="no module named tensorflow"):
        hook.run("tests.support.steps:speak", tmp_path, log)


def test_a_host_that_is_slow_to_start_is_waited_for(paths, log, tmp_path, monkeypatch):
    """On a machine so busy that a hundred seconds pass between two looks."""
    monkeypatch.setattr("nightly_airflow.hooks.ml.time.monotonic", itertools.count(step=100).__next__)
    hook = MLHook(paths=replace(paths, run=tmp_path / "run"))
    hook.run("tests.support.steps:speak", tmp_path, log)
