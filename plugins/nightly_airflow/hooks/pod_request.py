"""The pod of a step: the arguments of KubernetesPodOperator, from the model's config and this worker's environment."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s

from nightly.io import variables
from nightly.io.paths import Paths, python_path
from nightly.records.run_config import Pod

CONTAINER = "step"
STREAM_SECONDS = 15  # how often the log of a running step is fetched
KILL_SECONDS = 30  # allowed between SIGTERM and SIGKILL
STATE_VOLUME = "state"

# What a pod must have as this worker has it. NIGHTLY_METADATA_DB has a password, so it is in a Kubernetes secret.
SHARED = (
    variables.STATE,
    variables.CACHE_BYTES,
    variables.SERVING_REST,
    variables.SERVING_GRPC,
    variables.SERVING_BASE_PATH,
    variables.LOG_LEVEL,
    variables.CODE_VERSION,
)


def pod_arguments(
    pod: Pod, model: str, step: str, run_id: str, paths: Paths, timeout: dt.timedelta | None
) -> dict[str, Any]:
    """Return the arguments of KubernetesPodOperator for a pod that runs `step`."""
    function = step.rpartition(":")[2]
    return {
        "name": f"nightly-{model}-{function}".replace("_", "-"),
        "image": pod.image,
        "namespace": pod.namespace or None,
        "kubernetes_conn_id": pod.connection or None,
        "in_cluster": None if pod.connection else True,
        # Not the image's entrypoint, which may be another program.
        "cmds": [pod.python, "-P", "-m", "nightly.runtime.pod"],
        "arguments": [step, model, run_id],
        "env_vars": _environment(pod, paths),
        "env_from": [_from_secret(name) for name in pod.secrets],
        "container_resources": _resources(pod),
        "volumes": [k8s.V1Volume(name=STATE_VOLUME, empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=pod.disk))],
        "volume_mounts": _mounts(paths),
        "node_selector": dict(pod.node_selector),
        "tolerations": [k8s.V1Toleration(**_without_empty(each.model_dump())) for each in pod.tolerations],
        "service_account_name": pod.service_account or None,
        "automount_service_account_token": None if pod.service_account else False,
        "image_pull_secrets": [k8s.V1LocalObjectReference(name) for name in pod.image_pull_secrets],
        # A task may run several functions: a retry takes over the pod of the same one only.
        "labels": {"app.kubernetes.io/name": "nightly-retrain", "nightly/model": model, "nightly/step": function},
        "base_container_name": CONTAINER,
        # The end of the log becomes the container's termination message, so it outlives the log.
        "termination_message_policy": "FallbackToLogsOnError",
        "termination_grace_period": KILL_SECONDS,
        # The trigger ends the pod on time. Where no triggerer runs any more, Kubernetes does.
        "active_deadline_seconds": int(timeout.total_seconds()) if timeout else None,
        "execution_timeout": timeout,
        "startup_timeout_seconds": pod.start_seconds,
        "logging_interval": STREAM_SECONDS,
        "on_finish_action": "delete_pod",
        "log_events_on_startup": False,  # each look would read all events of the namespace
        "log_events_on_failure": True,
        "log_pod_spec_on_failure": False,
    }


def _environment(pod: Pod, paths: Paths) -> list[k8s.V1EnvVar]:
    shared = {variable.name: os.environ[variable.name] for variable in SHARED if os.environ.get(variable.name)}
    values = {
        **shared,
        variables.VAR.name: str(paths.var),  # the same on all hosts: ML Metadata has paths below it
        **{variables.FOLDER_VARIABLES[name].name: str(path) for name, path in _folders().items()},
        "PYTHONPATH": python_path(Path(pod.project)),
        "PYTHONUNBUFFERED": "1",
        **pod.env,
    }
    of_pod = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name"))
    return [
        *(k8s.V1EnvVar(name=name, value=value) for name, value in values.items()),
        k8s.V1EnvVar(name=variables.POD.name, value_from=of_pod),
    ]


def _folders() -> dict[str, Path]:
    """Return the folders of the state that the worker's environment names one by one."""
    named = {name: os.environ.get(variable.name) for name, variable in variables.FOLDER_VARIABLES.items()}
    return {name: Path(value).absolute() for name, value in named.items() if value}


def _mounts(paths: Paths) -> list[k8s.V1VolumeMount]:
    """Mount the pod's volume as NIGHTLY_VAR, and parts of it as the folders that are elsewhere."""
    elsewhere = {name: path for name, path in _folders().items() if not path.is_relative_to(paths.var)}
    return [
        k8s.V1VolumeMount(name=STATE_VOLUME, mount_path=str(paths.var)),
        *(
            k8s.V1VolumeMount(name=STATE_VOLUME, mount_path=str(path), sub_path=name)
            for name, path in elsewhere.items()
        ),
    ]


def _resources(pod: Pod) -> k8s.V1ResourceRequirements:
    """Return requests and limits; a GPU cannot be shared, so Kubernetes requires its limit."""
    gpus = {pod.gpu_resource: str(pod.gpus)} if pod.gpus else {}
    return k8s.V1ResourceRequirements(
        requests={"cpu": pod.cpu, "memory": pod.memory, **gpus}, limits={"memory": pod.memory, **gpus}
    )


def _from_secret(name: str) -> k8s.V1EnvFromSource:
    return k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=name))


def with_secret(request: k8s.V1Pod, name: str) -> k8s.V1Pod:
    """Add the secret `name` to the environment of the pod's container. The pod waits until the secret exists."""
    container = request.spec.containers[0]
    container.env_from = [*(container.env_from or []), _from_secret(name)]
    return request


def secret_of(pod: k8s.V1Pod, values: Mapping[str, str]) -> k8s.V1Secret:
    """Return a secret that Kubernetes deletes with `pod`, also if this worker is gone by then."""
    owner = k8s.V1OwnerReference(api_version="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid)
    metadata = k8s.V1ObjectMeta(
        name=pod.metadata.name, namespace=pod.metadata.namespace, labels=pod.metadata.labels, owner_references=[owner]
    )
    return k8s.V1Secret(metadata=metadata, string_data=dict(values), immutable=True, type="Opaque")


def _without_empty(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
