"""What a killed command left in the temporary folder goes with the next one."""

import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from nightly.io.paths import ROOT
from nightly.io.scratch import own_temporary_folder

NIGHT = [sys.executable, "-m", "nightly.cli.night"]


@pytest.mark.parametrize("before", ["set", None])
def test_a_process_has_a_temporary_folder_of_its_own_and_then_the_one_before(tmp_path, monkeypatch, before):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", before) if before else monkeypatch.delenv("TMPDIR")
    with own_temporary_folder("night"):
        (folder,) = tmp_path.iterdir()
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
        tempfile.mkdtemp()
    assert os.environ.get("TMPDIR") == before and not list(tmp_path.iterdir())


def test_what_a_killed_night_left_in_the_temporary_folder_goes_with_the_next(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "NIGHTLY_VAR": str(tmp_path / "var"), "TMPDIR": str(temporary), "no_proxy": "*"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        words = [*NIGHT, "complaints", "--as-of", "2016-01-02", "--source", source]
        with subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as killed:
            silent.settimeout(120)
            silent.accept()
            killed.send_signal(signal.SIGKILL)
    (left,) = temporary.iterdir()
    os.utime(left, (0, 0))
    done = subprocess.run([*NIGHT, "no-such-model"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "no-such-model" in done.stderr
    assert not list(temporary.iterdir())
