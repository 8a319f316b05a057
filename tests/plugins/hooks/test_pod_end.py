"""Why a pod ended without a result: an error of the step, or of the infrastructure, in a sentence."""

import datetime as dt
import os
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from kubernetes.client import ApiClient, V1Pod

from nightly_airflow.hooks.ml import MLInfrastructureFailed, MLProcessDied, MLStepFailed
from nightly_airflow.hooks.pod_end import why_without_result
from nightly_airflow.retries import OWN

FAILED = {"status": "failed"}
DRAINED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}


def pod(state: dict[str, Any] | None = None, *, deleted: bool = False, **status: Any) -> V1Pod:
    if state:
        status["containerStatuses"] = [
            {"name": name, "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": of}
            for name, of in (("mesh-proxy", {"terminated": {"exitCode": 0, "reason": "Completed"}}), ("step", state))
        ]
    metadata = {"name": "x", **({"deletionTimestamp": "2026-11-29T03:00:00Z"} if deleted else {})}
    plain = {"metadata": metadata, "status": {"phase": "Failed", **status}}
    return ApiClient()._ApiClient__deserialize(plain, "V1Pod")


def ended(exit_code: int, reason: str, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}


def why(pod: V1Pod | None, event: dict[str, Any] = FAILED) -> BaseException:
    return why_without_result("trainer", "nightly-taxi-trainer-x", pod, event, "8Gi of memory", dt.timedelta(hours=12))


@pytest.mark.parametrize(
    ("of", "event", "message"),
    [
        (
            pod(ended(137, "OOMKilled")),
            FAILED,
            "was killed: exit code 137, reason OOMKilled. It may have 8Gi of memory",
        ),
        (pod(ended(137, "Error")), FAILED, "was killed: exit code 137, reason Error"),
        (pod(reason="Evicted", message="low on memory"), FAILED, "Kubernetes ended the pod nightly-taxi-trainer-x: Ev"),
        (pod(reason="NodeShutdown"), FAILED, "NodeShutdown.$"),
        (None, FAILED, "was deleted while it ran"),
        (pod(ended(143, "Error")), FAILED, "was deleted while it ran"),
        (pod(ended(134, "Error"), deleted=True), FAILED, "was deleted while it ran"),
        (pod(deleted=True, phase="Pending"), FAILED, "was deleted while it ran"),
        (
            pod(ended(143, "Error"), conditions=[DRAINED], deleted=True),
            FAILED,
            "Kubernetes ended the pod nightly-taxi-trainer-x: EvictionByEvictionAPI. Eviction API: evicting",
        ),
        (
            pod({"waiting": {"reason": "ErrImagePull", "message": "no"}}),
            {"status": "timeout"},
            "start: ErrImagePull: no",
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]),
            {"status": "timeout", "_execution_deadline": time.time() + 86_400},
            "did not start: Unschedulable: 0/3",
        ),
    ],
)
def test_an_error_of_the_infrastructure(of, event, message):
    error = why(of, event)
    assert isinstance(error, MLInfrastructureFailed) and not isinstance(error, OWN)
    with pytest.raises(MLInfrastructureFailed, match=message):
        raise error


def test_a_crash_is_the_step_s_own_and_quotes_the_log_without_secrets():
    error = why(pod(ended(139, "Error", "loading\nfatal: postgres://user:planted@host/db\n")))
    assert isinstance(error, MLProcessDied)
    assert str(error) == (
        "trainer: the pod nightly-taxi-trainer-x ended without a result: exit code 139, reason Error. Its log ends:\n"
        "loading\nfatal: postgres://***@host/db"
    )


def test_a_pod_whose_state_is_refused_is_not_retried_and_says_so_in_its_last_line():
    line = "StateRefusedError: s3://state: the store refuses the environment's credentials"
    error = why(pod(ended(os.EX_NOPERM, "Error", f"INFO nightly: trainer\n{line}\n")))
    assert isinstance(error, MLStepFailed) and not error.retry
    assert str(error) == line


def test_a_pod_that_does_not_reach_the_state_is_retried_as_the_infrastructure():
    error = why(pod(ended(os.EX_TEMPFAIL, "Error", "StateNotReachedError: s3://state does not answer\n")))
    assert isinstance(error, MLInfrastructureFailed)
    assert str(error) == "StateNotReachedError: s3://state does not answer"


@pytest.mark.parametrize(
    ("of", "event"),
    [
        (pod(phase="Running"), {"status": "timeout", "_execution_deadline": time.time() - 1}),
        (pod(reason="DeadlineExceeded"), FAILED),
    ],
)
def test_its_time_is_over(of, event):
    assert isinstance(why(of, event), AirflowTaskTimeout)
