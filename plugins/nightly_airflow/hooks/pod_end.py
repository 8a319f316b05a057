"""Why a pod ended without a result, as the error of the task and in a sentence."""

from __future__ import annotations

import datetime as dt
import signal
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowTaskTimeout

from nightly.io.secrets import masked
from nightly.records.pod_result import REFUSED, UNRECORDED
from nightly_airflow.hooks.ml import LAST_LINES, MLInfrastructureFailed, MLProcessDied, step_error
from nightly_airflow.hooks.pod_request import CONTAINER

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

KILLED, TERMINATED = 128 + signal.SIGKILL, 128 + signal.SIGTERM
DEADLINE = "DeadlineExceeded"
DISRUPTED = "DisruptionTarget"


def why_without_result(
    step: str, name: str, pod: k8s.V1Pod | None, event: dict[str, Any], memory: str, timeout: dt.timedelta | None
) -> Exception | AirflowTaskTimeout:
    """Return the error of a step whose pod recorded no result.

    :param pod: as it was when the trigger's `event` came; None if it was gone
    :param memory: the pod's limit, and how to raise it
    """
    if pod is None:
        return _deleted(step, name)
    ended = _terminated(pod)
    reason, message = _reason(pod)
    if reason == DEADLINE or (event["status"] == "timeout" and _is_late(event)):
        return AirflowTaskTimeout(f"{step}: the pod {name} was ended after {timeout}, the time it is allowed")
    if reason:
        return MLInfrastructureFailed(f"{step}: Kubernetes ended the pod {name}: {reason}. {message}".rstrip())
    if pod.metadata.deletion_timestamp or (ended and ended.exit_code == TERMINATED):
        return _deleted(step, name)
    if ended is None:
        return MLInfrastructureFailed(
            f"{step}: the pod {name} did not start: {_waits_for(pod)}; {event.get('message', '')}"
        )
    if ended.exit_code in (REFUSED, UNRECORDED) and ended.message:
        error = ended.message.splitlines()[-1]
        return step_error(error, retry=ended.exit_code != REFUSED, infrastructure=ended.exit_code == UNRECORDED)
    code = f"exit code {ended.exit_code}, reason {ended.reason}"
    if ended.reason == "OOMKilled" or ended.exit_code == KILLED:
        killed = f"{step}: the pod {name} was killed: {code}. It may have {memory}."
        return MLInfrastructureFailed(f"{killed}{_end_of_log(ended)}")
    return MLProcessDied(f"{step}: the pod {name} ended without a result: {code}.{_end_of_log(ended)}")


def _deleted(step: str, name: str) -> MLInfrastructureFailed:
    return MLInfrastructureFailed(f"{step}: the pod {name} was deleted while it ran, by a person or with its node")


def _is_late(event: dict[str, Any]) -> bool:
    """Whether the task's time is over. The trigger calls a pod that does not start `timeout`, too."""
    return time.time() >= event.get("_execution_deadline", float("inf"))


def _reason(pod: k8s.V1Pod) -> tuple[str, str]:
    """Return why Kubernetes ended the pod, and its message; the reason is empty if it did not.

    A node that runs out of something sets the pod's reason. Whoever deletes the pod through the API, as a drain, a
    preemption or the autoscaler does, sets the condition.
    """
    if pod.status.reason:
        return pod.status.reason, pod.status.message or ""
    for condition in pod.status.conditions or []:
        if condition.type == DISRUPTED and condition.status == "True":
            return condition.reason or DISRUPTED, condition.message or ""
    return "", ""


def _terminated(pod: k8s.V1Pod) -> k8s.V1ContainerStateTerminated | None:
    for status in pod.status.container_statuses or []:
        if status.name == CONTAINER and status.state:
            return status.state.terminated
    return None


def _waits_for(pod: k8s.V1Pod) -> str:
    """Return what the container waits for, such as its image, or what the scheduler says of the pod."""
    for status in pod.status.container_statuses or []:
        if status.state and status.state.waiting:
            return f"{status.state.waiting.reason}: {status.state.waiting.message or 'no details'}"
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status != "True":
            return f"{condition.reason}: {condition.message}"
    return f"it is {pod.status.phase}"


def _end_of_log(ended: k8s.V1ContainerStateTerminated) -> str:
    lines = masked(ended.message or "").splitlines()[-LAST_LINES:]
    return "\n".join([" Its log ends:", *lines]) if lines else ""
