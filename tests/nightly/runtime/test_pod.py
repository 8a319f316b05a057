"""A step in a pod, without the pod."""

import logging
import os
import signal
import tempfile
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from nightly.records.pod_result import PodResult
from nightly.runtime import pod
from nightly.state import current
from nightly.state.errors import StateNotReachedError, StateRefusedError


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


@pytest.mark.parametrize(
    ("error", "status"),
    [(StateRefusedError("the keys"), os.EX_NOPERM), (StateNotReachedError("the bucket"), os.EX_TEMPFAIL)],
)
def test_a_pod_that_cannot_record_says_why_in_its_last_line(monkeypatch, capsys, error, status):
    @contextmanager
    def session(model):
        raise error
        yield

    monkeypatch.setattr(pod, "current", lambda: SimpleNamespace(session=session))
    assert pod.main("tests.support.steps:speak", "taxi", "tonight") == status
    assert capsys.readouterr().err.splitlines()[-1] == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(("error", "retry"), [(StateRefusedError("no"), False), (StateNotReachedError("no"), True)])
def test_what_the_state_refused_to_publish_is_recorded_with_whether_a_retry_helps(paths, monkeypatch, error, retry):
    sessions = []

    @contextmanager
    def session(model):
        sessions.append(model)
        with current().session(model) as paths:
            yield paths
        if len(sessions) == 1:
            raise error

    monkeypatch.setattr(pod, "current", lambda: SimpleNamespace(session=session))
    assert pod.main("tests.support.steps:record", "taxi", "tonight") == 1
    result = PodResult.load(PodResult.path(paths.night("taxi", "tonight"), "tests.support.steps:record"))
    assert (result.retry, result.infrastructure) == (retry, retry)
