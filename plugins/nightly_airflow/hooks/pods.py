"""Runs a step in a Kubernetes pod, by KubernetesPodOperator: while the pod runs, the task is deferred and has no slot.

This module imports the Kubernetes client, which takes a second: import it in a task, not in a DAG's file.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from kubernetes.client.exceptions import ApiException

from nightly.io.paths import Paths
from nightly.records.pod_result import PodResult
from nightly.records.run_config import Pod, section_of
from nightly.state import current, publish
from nightly_airflow.hooks.ml import step_error
from nightly_airflow.hooks.pod_end import why_without_result
from nightly_airflow.hooks.pod_request import pod_arguments, secret_of, with_secret
from nightly_airflow.hooks.step_log import logged

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import models as k8s

log = logging.getLogger(__name__)

NOT_FOUND, CONFLICT = 404, 409


class PodOfStep(KubernetesPodOperator):
    """KubernetesPodOperator, with environment variables that are in a secret of the pod's own, and levels in the log.

    :param secret: these variables. The secret has the pod's name, and goes with the pod
    """

    def __init__(self, *, secret: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.secret = secret

    def build_pod_request_obj(self, context: Context | None = None, **kwargs: Any) -> k8s.V1Pod:
        request = super().build_pod_request_obj(context, **kwargs)
        return with_secret(request, request.metadata.name) if self.secret else request

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """Create the pod, and then its secret, which the pod waits for and which names the pod as its owner."""
        pod = super().get_or_create_pod(pod_request_obj, context)
        if self.secret:
            created = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
            try:
                self.client.create_namespaced_secret(created.metadata.namespace, secret_of(created, self.secret))
            except ApiException as error:
                if error.status != CONFLICT:  # a pod of an earlier try, which runs on, has its secret
                    self.pod_manager.delete_pod(created)
                    raise
        # The provider would not defer if the container of an earlier try's pod has ended. The trigger sees it, too.
        pod.status = None
        return pod

    def is_istio_enabled(self, pod: k8s.V1Pod) -> bool:
        """Have the pod end with the step's container: an injected container, of whatever kind, may run on."""
        return True

    def _write_logs(self, pod: k8s.V1Pod, follow: bool = False, since_time: dt.datetime | None = None) -> None:
        """Log what the pod has printed since the trigger's last look. The provider would log it all as INFO."""
        since = math.ceil(time.time() - since_time.timestamp()) if since_time else None
        lines = self.client.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=self.base_container_name,
            since_seconds=since,
            _preload_content=False,
        )
        for _ in logged((line.decode(errors="backslashreplace") for line in lines), self.log):
            pass


class PodHook:
    """One step of a night in a pod.

    :param pod: what the config says of it
    :param step: a step's name, or any `package.module:function`
    :param task: what the config calls the step's task
    :param timeout: how long the task may take
    """

    def __init__(
        self, pod: Pod, *, model: str, run_id: str, step: str, task: str, paths: Paths, timeout: dt.timedelta | None
    ) -> None:
        if not current().shared:
            raise AirflowFailException(
                f"{step} runs in a Kubernetes pod, which has no disk of this worker, and the state is in the folder "
                f'{paths.var}: name a bucket in NIGHTLY_STATE, or set where = "host" for it in the model\'s config'
            )
        self.pod, self.step, self.task = pod, step, task
        self.model, self.run_id = model, run_id
        self.paths = paths
        self.timeout = timeout
        self._operator: PodOfStep | None = None

    def start(self, context: Context, environment: Mapping[str, str]) -> TaskDeferred:
        """Create the pod; return the deferral that ends with it, whose event `finish` takes.

        :param environment: further environment variables of the pod, which are secret
        """
        operator = self._new_operator(environment, deferrable=True)
        try:
            operator.execute_async(context)
        except TaskDeferred as deferred:
            return deferred
        raise RuntimeError("KubernetesPodOperator did not defer")

    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Log the end of the pod's log, delete the pod, and return the step's result.

        :raises TaskDeferred: the pod still runs, after an error of the trigger
        :raises MLStepFailed: the step's own error
        :raises MLProcessDied: its process crashed
        :raises MLInfrastructureFailed: Kubernetes ended the pod, or never started it, or it did not reach the state
        :raises AirflowTaskTimeout: it took longer than it may
        """
        operator = self._new_operator({}, deferrable=True)
        name, namespace = event["name"], event["namespace"]
        pod = self._read(operator, name, namespace)
        try:
            operator.trigger_reentry(context, event)
        except AirflowException as error:
            log.debug("KubernetesPodOperator: %s", error)  # `why_without_result` says it in a sentence
        return self._value(name, pod, event)

    def run(self, context: Context) -> Any:
        """Run the step while this process waits for it, and return its result. Raises as `finish` does.

        For the short work of a task that goes on with the result.
        """
        night_folder = self.paths.night(self.model, self.run_id)
        publish(night_folder)  # what the task has just written is what the step reads
        operator = self._new_operator({}, deferrable=False)
        try:
            # The store names the task's last pod, which may be another function's. The labels tell them apart.
            operator.execute_sync({**context, "task_state_store": None})
        except AirflowException as error:
            log.debug("KubernetesPodOperator: %s", error)
        result = self._value(operator.pod.metadata.name, operator.remote_pod, {"status": "failed"})
        for folder in (night_folder, self.paths.releases, self.paths.schemas):
            current().refresh(folder / self.model if folder != night_folder else folder)
        return result

    def kill(self) -> None:
        """Delete the pod that this process waits for."""
        if self._operator is not None:
            self._operator.on_kill()

    def _new_operator(self, environment: Mapping[str, str], *, deferrable: bool) -> PodOfStep:
        arguments = pod_arguments(self.pod, self.model, self.step, self.run_id, self.paths, self.timeout)
        self._operator = PodOfStep(task_id="pod", secret=environment, deferrable=deferrable, **arguments)
        return self._operator

    def _value(self, name: str, pod: k8s.V1Pod | None, event: dict[str, Any]) -> Any:
        result = self._result(name)
        if result is None:
            memory = f"{self.pod.memory} of memory: raise {section_of(self.task)}.memory if it needs more"
            raise why_without_result(self.step, name, pod, event, memory, self.timeout)
        if result.error:
            raise step_error(result.error, result.retry, result.infrastructure)
        return result.value

    def _result(self, pod_name: str) -> PodResult | None:
        """Return what the pod recorded, or None if it ended before that."""
        path = PodResult.path(self.paths.night(self.model, self.run_id), self.step)
        current().refresh(path.parent)
        result = PodResult.load(path) if path.exists() else None
        return result if result and result.pod == pod_name else None

    @staticmethod
    def _read(operator: PodOfStep, name: str, namespace: str) -> k8s.V1Pod | None:
        try:
            return operator.hook.get_pod(name, namespace)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            return None
