"""Tasks that run a step in the ML environment, some of which can stop the night."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from nightly.models import load_config, window_end
from nightly.nights.report import table
from nightly.nights.unreleased import reason_not_to_release, recorded_reason
from nightly.records.night import GateResult, SnapshotRef
from nightly_airflow.hooks.ml import MLHook, MLStepFailed
from nightly_airflow.operators.base import NightOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from nightly_airflow.hooks.pods import PodHook


class MLStepOperator(NightOperator):
    """Runs a step in the ML environment; its lines stream to the task's log, its result goes to XCom.

    By the model's config it runs in the worker's environment or, with the task deferred, in a Kubernetes pod.

    :param step: a node of the pipeline; by default the task's id
    """

    template_fields = (*NightOperator.template_fields, "step")
    ui_color = "#e8f0fe"

    def __init__(self, *, step: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step or self.task_id

    @cached_property
    def hook(self) -> MLHook:
        return MLHook()

    @cached_property
    def pod(self) -> PodHook | None:
        """The step's pod, or None if it runs in the worker's environment."""
        pod = load_config(self.model).run.pod(self.step)
        if pod is None:
            return None
        from nightly_airflow.hooks.pods import PodHook  # imports the Kubernetes client

        step = {"model": self.model, "run_id": self.run_id, "step": self.step, "task": self.step}
        return PodHook(pod, **step, paths=self.paths, timeout=self.execution_timeout)

    def perform(self, context: Context) -> Any:
        self.check()
        if self.pod:
            return self._defer(self.pod.start(context, self.environment()))
        return self._finish(context, partial(self.hook.run, self.step, self.folder, self.log, self.environment()))

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the step's pod has ended."""
        return self.run_recording_errors(partial(self._resume, event), context)

    def check(self) -> None:
        """Raise AirflowSkipException or AirflowFailException if the step must not run."""

    def conclude(self, context: Context, result: Any) -> Any:
        """Return the task's result after the step's."""
        return result

    def _resume(self, event: dict[str, Any], context: Context) -> Any:
        if self.pod is None:
            raise AirflowFailException(f"{self.step} began in a pod, and the config has been changed since: clear it")
        self.environment()  # so that this process, too, masks what is secret in it
        try:
            return self._finish(context, partial(self.pod.finish, context, event))
        except TaskDeferred as deferred:  # the pod still runs
            return self._defer(deferred)

    def _defer(self, deferred: TaskDeferred) -> NoReturn:
        """Defer this task in place of the pod's operator, which is no task."""
        raise TaskDeferred(trigger=deferred.trigger, method_name="resume", timeout=deferred.timeout)

    def _finish(self, context: Context, run: Callable[[], Any]) -> Any:
        try:
            result = run()
        except MLStepFailed as error:
            if error.retry:
                raise
            raise AirflowFailException(str(error)) from None
        return self.conclude(context, result)

    def environment(self) -> dict[str, str]:
        """Return further environment variables of the step's process."""
        return {}

    def on_kill(self) -> None:
        self.hook.kill()
        if "pod" in self.__dict__ and self.pod:
            self.pod.kill()


class ShortCircuitStepOperator(MLStepOperator, SkipMixin):
    """A step that can stop the night: all downstream tasks but the verdict are skipped.

    Only the direct downstream tasks are skipped here. The others follow by their trigger rules; the verdict's lets it
    run. The decision stays in XCom, so that clearing a downstream task does not bypass the gate.
    """

    inherits_from_skipmixin = True  # otherwise the scheduler ignores that XCom

    def conclude(self, context: Context, result: Any) -> Any:
        if reason := self.reason_to_stop(result):
            self.log.warning("%s; skipping the downstream tasks", reason)
        if skipped := self.tasks_to_skip(context, stop=bool(reason)):
            context["ti"].xcom_push(key="return_value", value=result)  # skip() raises, so nothing is returned
            self.skip(context["ti"], skipped)
        return result

    def tasks_to_skip(self, context: Context, stop: bool) -> list[Any]:
        """Return the direct downstream tasks to skip."""
        return list(context["task"].get_direct_relatives(upstream=False)) if stop else []

    def reason_to_stop(self, result: dict[str, Any]) -> str:
        """Return why the night ends here, or "" to go on."""
        raise NotImplementedError


class SnapshotOperator(ShortCircuitStepOperator):
    """Makes the night's snapshot; without rows the night ends."""

    def reason_to_stop(self, result: dict[str, Any]) -> str:
        snapshot = SnapshotRef.parse(result, where="the snapshot step's result")
        night = self.night()
        return "" if snapshot.rows else snapshot.no_data(night.window_start, window_end(night))


class GateOperator(ShortCircuitStepOperator):
    """A gate: logs its findings with their values and thresholds, and ends the night unless they pass."""

    ui_color = "#fdebd0"

    def reason_to_stop(self, result: dict[str, Any]) -> str:
        gate = GateResult.parse(result, where=f"the result of {self.step}")
        for line in table(gate.reasons).splitlines():
            self.log.info("%s", line)
        self.log.info("the %s gate %s", gate.gate, "passed" if gate.passed else "held the night")
        return "" if gate.passed else f"the {gate.gate} gate held the night for {len(gate.held_for)} reasons"


class ReleaseOperator(MLStepOperator):
    """Releases the model into the serving volume, if both gates passed and the run is asked to release."""

    def check(self) -> None:
        for file in (GateResult.DATA_FILE, GateResult.MODEL_FILE):
            gate = GateResult.load(self.folder / file)
            if not gate.passed:  # a person has marked or cleared tasks by hand
                raise AirflowFailException(
                    f"the {gate.gate} gate held this night: it is not released. To release it nevertheless, trigger "
                    "the night again with that threshold replaced, and a reason."
                )
        if reason := reason_not_to_release(self.night(), self.paths):
            raise AirflowSkipException(f"both gates passed, but nothing is released: {reason}.")

    def conclude(self, context: Context, result: Any) -> Any:
        if reason := recorded_reason(self.night(), self.paths):  # the model is a version already
            raise AirflowSkipException(f"nothing is released: {reason}")
        return result
