"""Nights on a disk that is full: what they cannot write, they say all the same."""

import pytest

from tests.support.dag_runs import told

pytestmark = pytest.mark.slow


def test_a_night_that_can_write_nothing_is_told_once_with_its_error(
    run_night,
    slack,
    full_disk,
    tmp_path,
):
    (tmp_path / "var").mkdir()
    (tmp_path / "var/nights").mkdir()
    (tmp_path / "var/nights/taxi").symlink_to(full_disk / "taxi")
    (full_disk / "taxi").mkdir()
    state, note, states, folder = run_night()

    assert (state, states["plan"], states["verdict"]) == ("failed", "failed", "failed")
    assert note.startswith("**✕ FAILED: plan failed: [Errno 28] No space left on device")
    assert "No space left on device" in told(slack)  # which takes one message, for five tries
    assert not (folder / "verdict.json").exists() and not (folder / "plan.error.json").exists()
