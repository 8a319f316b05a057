"""Unfinished work is removed when its owner has died, and never before."""

import os
import signal
import subprocess
import sys

from nightly.io.owned import YOUNG_SECONDS, owned_folder, remove_abandoned

OWNER = """
import os, signal, sys
from pathlib import Path
from nightly.io.owned import owned_folder

with owned_folder(Path(sys.argv[1]), "work-") as folder:
    (folder / "half").touch()
    print(folder, flush=True)
    signal.pause()
"""


def grow_old(folder):
    os.utime(folder, (0, 0))


def test_a_folder_goes_with_its_block_even_when_that_fails(tmp_path):
    try:
        with owned_folder(tmp_path, "work-") as folder:
            (folder / "file").touch()
            raise ValueError
    except ValueError:
        assert not folder.exists()


def test_only_what_a_dead_process_left_is_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    dead = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with owned_folder(tmp_path, "work-") as alive, owned_folder(tmp_path, "work-") as young:
        (tmp_path / "work-new").mkdir()  # whose lock is yet to come
        grow_old(dead), grow_old(alive)
        assert [str(folder) for folder in remove_abandoned(tmp_path.glob("work-*"))] == [dead]
        assert sorted(tmp_path.iterdir()) == sorted([alive, young, tmp_path / "work-new"])
    assert YOUNG_SECONDS > 10
