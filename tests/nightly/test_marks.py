"""The marks by which bin/test selects tests."""

import subprocess
import sys

import pytest

from nightly.io.paths import ROOT


@pytest.mark.slow
def test_the_quick_tests_have_none_of_a_campaign():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    done = subprocess.run(
        [*command, "tests/nightly/engines/test_beam_engines.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and "deselected" in done.stdout, done.stdout
