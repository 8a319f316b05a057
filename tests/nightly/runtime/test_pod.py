"""A step in a pod, without the pod."""

import logging
import signal
import tempfile

import pytest

from nightly.records.pod_result import PodResult
from nightly.runtime import pod


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """A pod's process handles SIGTERM and replaces the log's handlers; this one is not to."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logging.getLogger(), "handlers", logging.getLogger().handlers)


@pytest.mark.parametrize(("step", "status"), [("speak", 0), ("fail", 1)])
def test_a_pod_whose_temporary_folder_is_full_records_what_its_step_came_to(
    paths, full_disk, monkeypatch, step, status
):
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    monkeypatch.setenv("NIGHTLY_POD", "a-pod")
    step = f"tests.support.steps:{step}"
    assert pod.main(step, "taxi", "tonight") == status
    result = PodResult.load(PodResult.path(paths.night("taxi", "tonight"), step))
    assert (result.value["night"] == "tonight") if status == 0 else ("third column is missing" in result.error)
