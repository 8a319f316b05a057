"""The hook runs steps in the real ML environment: in forks of the warm host, and in processes of their own."""

import itertools
import logging
import os
import shutil
import threading
import time
from dataclasses import replace

import pytest

from include.contracts.places import ROOT, Places
from nightly.hooks.ml import MLHook, MLHostNotStarted, MLProcessDied, MLStepFailed

MARK = """
import sys

def mark(night_folder, places):
    preloaded = "include.pipeline.runner" in sys.modules
    return {"preloaded": preloaded, "mark": getattr(sys.modules["include.contracts.places"], "MARK", None)}
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """One host for the module; it ends by itself soon after the last test."""
    os.environ["NIGHTLY_HOST_IDLE_SECONDS"] = "20"
    yield replace(Places.from_environment(), run=tmp_path_factory.mktemp("run"))
    del os.environ["NIGHTLY_HOST_IDLE_SECONDS"]


@pytest.fixture(params=["warm", "alone"])
def hook(request, places):
    return MLHook(warm=request.param == "warm", places=places)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return logging.getLogger("task")


def gone(pid, seconds=10):
    """Whether the process ended; a zombie has."""
    for _ in range(seconds * 10):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_a_step_returns_its_result_and_streams_its_lines_at_their_levels(hook, log, caplog, tmp_path):
    first_seen = []

    class Watch(logging.Handler):
        def emit(self, record):
            first_seen.append(time.monotonic())

    log.addHandler(Watch())
    result = hook.run("tests.steps:speak", tmp_path, log)
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
        hook.run("tests.steps:fail", tmp_path, log)


def test_a_step_whose_process_dies_is_told_with_the_signal(hook, log, tmp_path):
    with pytest.raises(MLProcessDied, match="SIGABRT"):
        hook.run("tests.steps:crash", tmp_path, log)


def test_kill_ends_the_step_and_what_it_started(hook, log, tmp_path):
    ended = []

    def run():
        with pytest.raises(MLProcessDied):
            hook.run("tests.steps:hang_with_a_child", tmp_path, log)
        ended.append(True)

    running = threading.Thread(target=run)
    running.start()
    pids = tmp_path / "pids"
    for _ in range(600):
        if pids.exists() and pids.read_text().count(" "):
            break
        time.sleep(0.1)
    hook.kill()
    running.join(timeout=20)
    assert ended
    assert all(gone(pid) for pid in pids.read_text().split())


def test_steps_run_at_once_in_one_host(places, log, tmp_path):
    results = []
    hooks = [MLHook(places=places) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda h=h: results.append(h.run("tests.steps:speak", tmp_path, log))) for h in hooks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result["pid"] for result in results}) == 4


def test_a_warm_start_takes_less_than_the_imports(places, log, tmp_path):
    hook = MLHook(places=places)
    hook.run("tests.steps:speak", tmp_path, log)
    began = time.monotonic()
    hook.run("tests.steps:speak", tmp_path, log)
    assert time.monotonic() - began < 5, "a fork does not import TensorFlow again"


def test_an_edit_of_the_project_holds_from_the_next_step_on(places, log, tmp_path, monkeypatch):
    project = tmp_path / "project"
    for package in ("include", "client"):
        shutil.copytree(ROOT / package, project / package)
    (project / "tests").mkdir()
    (project / "tests/marks.py").write_text(MARK)
    monkeypatch.setattr("nightly.hooks.ml.ROOT", project)
    hook = MLHook(places=replace(places, run=tmp_path / "run"))
    assert hook.run("tests.marks:mark", tmp_path, log) == {"preloaded": True, "mark": None}
    with (project / "include/contracts/places.py").open("a") as file:
        file.write("\nMARK = 2\n")
    assert hook.run("tests.marks:mark", tmp_path, log) == {"preloaded": True, "mark": 2}


def test_only_its_user_can_open_the_host(places, log, tmp_path):
    MLHook(places=places).run("tests.steps:speak", tmp_path, log)
    (path,) = (places.run / "host").glob("*.sock")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_missing_ml_environment_says_what_to_do(places, log, tmp_path):
    hook = MLHook(places=replace(places, ml_python=tmp_path / "no/python"))
    with pytest.raises(MLHostNotStarted, match="make setup"):
        hook.run("tests.steps:speak", tmp_path, log)


def test_a_host_that_cannot_start_says_why(places, log, tmp_path):
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no module named tensorflow >&2; exit 3\n")
    broken.chmod(0o755)
    hook = MLHook(places=replace(places, ml_python=broken, run=tmp_path / "run"))
    with pytest.raises(MLHostNotStarted, match="no module named tensorflow"):
        hook.run("tests.steps:speak", tmp_path, log)


def test_a_host_that_is_slow_to_start_is_waited_for(places, log, tmp_path, monkeypatch):
    """On a machine so busy that a hundred seconds pass between two looks."""
    monkeypatch.setattr("nightly.hooks.ml.time.monotonic", itertools.count(step=100).__next__)
    hook = MLHook(places=replace(places, run=tmp_path / "run"))
    hook.run("tests.steps:speak", tmp_path, log)
