"""Where the short work of a task in the ML environment runs, by the model's config: on this host, or in a pod."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import get_current_context

from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.run_config import Pod
from nightly_airflow.hooks.ml import MLHook

if TYPE_CHECKING:
    from nightly_airflow.hooks.pods import PodHook
    from nightly_airflow.operators.base import NightOperator


class Runner(Protocol):
    """What runs a function of the ML environment for a night, and returns its result. See MLHook.run."""

    def run(
        self, step: str, night_folder: Path, log: logging.Logger, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]: ...

    def kill(self) -> None: ...


def runner_of(operator: NightOperator, task: str) -> Runner:
    """Return what runs the functions of `task`, a key of the config's run.steps: here, or in a pod while it waits."""
    pod = load_config(operator.model).run.pod(task)
    return MLHook(paths=operator.paths) if pod is None else InPod(pod, task, operator, operator.paths)


class InPod:
    """Runs functions in pods, one after the other; the task keeps its slot, because it goes on with the result."""

    def __init__(self, pod: Pod, task: str, operator: NightOperator, paths: Paths) -> None:
        self.pod, self.task, self.operator, self.paths = pod, task, operator, paths
        self._hook: PodHook | None = None

    def run(
        self, step: str, night_folder: Path, log: logging.Logger, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        from nightly_airflow.hooks.pods import PodHook  # imports the Kubernetes client

        night = {"model": self.operator.model, "run_id": self.operator.run_id, "task": self.task}
        timeout = self.operator.execution_timeout
        self._hook = PodHook(self.pod, **night, step=step, paths=self.paths, timeout=timeout)
        return self._hook.run(get_current_context())

    def kill(self) -> None:
        if self._hook is not None:
            self._hook.kill()
