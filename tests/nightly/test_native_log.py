"""TensorFlow's native log: nothing below its level in any command's output, and every native error."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightly.io.paths import python_path
from nightly.io.polling import poll
from tests.support.data import TAXI

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NATIVE = re.compile(r"^([IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages before|To enable the following)", re.MULTILINE)
USE_TENSORFLOW = ["-c", "import nightly, tensorflow as tf; print(tf.constant(1) + 1)"]


@pytest.fixture
def environment(tmp_path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    return kept | {
        "NIGHTLY_VAR": str(tmp_path / "var"),
        "NIGHTLY_ML_PYTHON": sys.executable,
        "PYTHONPATH": python_path(),
    }


def run(words, environment, status=0):
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["bin/data", "statistics", str(TAXI)],
        ["bin/data", "schema", "show", "taxi"],
        [sys.executable, *USE_TENSORFLOW],  # a notebook
    ],
)
def test_a_command_shows_no_native_line(words, environment):
    assert not NATIVE.search(run(words, environment))


def test_a_night_shows_no_native_line(environment):
    night = ["bin/night", "taxi", "--as-of", "2016-03-01", "--train-steps", "1", "--until", "trainer"]
    written = run(night, environment)
    assert "INFO nightly: training 1 steps" in written
    assert not NATIVE.search(written)


@pytest.mark.parametrize(
    ("words", "ready"),
    [
        (["nightly.runtime.host", "{folder}/ml.sock"], "warm after"),
        (["nightly_server", "--port=0", "--rest_api_port=0", "--model_base_path={folder}/m"], "eady"),
    ],
)
def test_a_process_that_stays_shows_no_native_line(words, ready, environment, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", *(word.format(folder=tmp_path) for word in words)]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            poll(lambda: ready in log.read_text() or process.poll() is not None, every=0.1, seconds=180)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
    assert ready in log.read_text()
    assert not NATIVE.search(log.read_text())


def test_a_native_error_that_ends_the_process_is_shown(environment):
    written = run([sys.executable, *USE_TENSORFLOW], environment | {"TF_XLA_FLAGS": "--nonsense"}, status=1)
    assert re.search(r"^F\d{4} .* Unknown flag in TF_XLA_FLAGS: --nonsense", written, re.MULTILINE)


def test_an_error_during_the_import_is_shown_and_what_is_below_the_level_is_not(environment, tmp_path):
    """A stand-in for TensorFlow: the real one logs no error that a test can provoke while it is imported."""
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        "for letter in 'IWEF':\n"
        "    os.write(2, f'{letter}0000 00:00:1795394992.259580   21893 a.cc:1] {letter} is shown\\n'.encode())\n"
        "os.abort()\n"
    )
    environment["PYTHONPATH"] = f"{tmp_path}:{python_path()}"
    for level, shown in (("0", "IWEF"), ("1", "WEF"), ("2", "EF"), ("3", "F"), ("", "IWEF")):
        written = run([sys.executable, *USE_TENSORFLOW], environment | {"TF_CPP_MIN_LOG_LEVEL": level}, -signal.SIGABRT)
        assert re.findall(r"(\w) is shown", written) == list(shown), level


@pytest.mark.parametrize("missing", ["grep", "standard error"])
def test_without_grep_or_standard_error_tensorflow_is_imported_all_the_same(missing, environment):
    words = [sys.executable, *USE_TENSORFLOW]
    if missing == "grep":
        environment["PATH"] = "/nonexistent"
        assert "cudart" in run(words, environment)
    else:
        run(["bash", "-c", 'exec "$@" 2>&-', "bash", *words], environment)


def test_the_package_is_imported_without_the_server(environment):
    """As on a serving machine, which pulls releases and has no TensorFlow."""
    code = "import sys; sys.modules['nightly_server'] = None; import nightly.cli.pull, nightly.release.store"
    run([sys.executable, "-c", code], environment)
