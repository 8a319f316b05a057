"""Twenty faults over whole nights, with a fixed seed: no invariant is violated."""

import json
import subprocess
import sys

import pytest

from nightly.io.paths import ROOT

# Many faults a night, and short waits between tries. The bounds are for a machine that runs other tests, too.
COMMAND = ["--seed=14", "--faults=20", "--a-night=12", "--gap=10", "--retry=5"]
COMMAND += ["--bound=1500", "--settle=240", "--no-clock"]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_twenty_faults_violate_no_invariant(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *COMMAND, f"--home={tmp_path / 'chaos'}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    report = json.loads((tmp_path / "chaos/report.json").read_text())
    assert len(report["trials"]) >= 20
    assert not report["violations"]
