"""One process at a time holds a lock, and its death releases it."""

import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from nightly.io.locks import has_owner, locked

HOLDER = """
import signal, sys
from pathlib import Path
from nightly.io.locks import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_lock_has_an_owner_while_it_is_held(tmp_path):
    assert not has_owner(tmp_path / "lock")
    with locked(tmp_path / "lock"):
        assert has_owner(tmp_path / "lock")
    assert not has_owner(tmp_path / "lock")


def test_a_lock_is_refused_or_waited_for_until_its_holder_dies(tmp_path):
    path = tmp_path / "new" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    waited = []

    def kill_holder():
        waited.append(True)
        holder.send_signal(signal.SIGKILL)

    with locked(path, on_wait=kill_holder):
        assert waited == [True]
    holder.wait()


def test_a_lock_whose_holder_removed_its_file_is_held_at_the_new_file(tmp_path):
    path, holder = tmp_path / "lock", ExitStack()
    holder.enter_context(locked(path))

    def end_holder():
        path.unlink()
        holder.close()

    with locked(path, on_wait=end_holder):
        assert has_owner(path), "a later process would lock it, too"
