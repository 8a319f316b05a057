import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local.child import Child
from nightly.io.paths import ROOT
from nightly.io.polling import poll

FAMILY = ["bash", "-c", "sleep 600 & echo $! $$; wait"]
STUBBORN = ["bash", "-c", "trap '' TERM; sleep 600 & echo $! $$; while true; do wait; done"]

PARENT = """
import sys, time
from pathlib import Path
from local.child import Child
Child(sys.argv[2:], Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"})
time.sleep(600)
"""


def pids(log: Path) -> list[int]:
    """The two that FAMILY tells of."""
    words = poll(
        lambda: log.read_text().split() if log.exists() else [],
        until=lambda words: len(words) == 2,
        every=0.05,
        seconds=30,
    )
    assert len(words) == 2, "the command did not start"
    return [int(word) for word in words]


def gone(family: list[int]) -> bool:
    return poll(
        lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in family),
        every=0.05,
        seconds=30,
    )


@pytest.mark.parametrize("command", [FAMILY, STUBBORN], ids=["that ends when asked", "that must be made to"])
def test_stop_ends_all_that_the_command_has_started(tmp_path, command):
    child = Child(command, tmp_path / "log", dict(os.environ))
    family = pids(tmp_path / "log")
    assert child.running
    child.stop()
    assert gone(family)
    assert not child.running


def test_all_of_it_ends_when_the_one_who_started_it_is_killed(tmp_path):
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log), *FAMILY], cwd=ROOT)
    family = pids(log)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(family)


def test_a_command_that_ends_by_itself_gives_its_code_and_leaves_nothing(tmp_path):
    child = Child(["bash", "-c", "sleep 600 & echo $! $$; exit 3"], tmp_path / "log", dict(os.environ))
    assert child.wait() == 3
    assert gone(pids(tmp_path / "log"))
    child.stop()
