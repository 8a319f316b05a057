"""The last task of a night: decides its outcome, whatever happened, and shows it."""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from nightly.nights.report import note, report
from nightly.nights.verdict import judge, write
from nightly.records.night import utc_now
from nightly.records.verdict import Outcome, Verdict
from nightly.state import publish
from nightly_airflow.note import NOTE_KEY
from nightly_airflow.notifiers.verdict import VerdictNotifier
from nightly_airflow.operators.base import ERROR_KEY, NightOperator, rendered
from nightly_airflow.operators.plan import requested_as_of
from nightly_airflow.web.address import night_url

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)


class VerdictOperator(NightOperator):
    """Writes verdict.json (contract Verdict) and shows it in the run's note, the rendered text and the log.

    If the night failed, this task fails, and with it the run. A held night succeeds: the gates did their work, and
    alerts for failed runs must not fire. The run's note, the skipped tasks and the notifier show that it was held.
    """

    template_fields = (*NightOperator.template_fields, "verdict")
    overwrite_rtif_after_execution = True  # the rendered text is known only after execution
    ui_color = "#e6f4ea"

    def __init__(self, *, verdict: str = "", **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)
        self.verdict = verdict

    def execute(self, context: Context) -> None:
        self.in_session(self.perform, context)

    def perform(self, context: Context) -> None:
        ti = context["ti"]
        order = [task.task_id for task in self.dag.topological_sort() if task.task_id in self._upstream()]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
        failed = [task for task in order if states.get(task) == "failed"]
        errors = {task: ti.xcom_pull(task_ids=task, key=ERROR_KEY) for task in failed}
        verdict = judge(
            self.model,
            self.run_id,
            self.paths,
            {task: states.get(task) for task in order},
            tries={task.task_id: (task.retries or 0) + 1 for task in self.dag.tasks},
            errors={task: error for task, error in errors.items() if error},
            ran=durations(ti, failed),
            as_of=requested_as_of(context["dag_run"], utc_now()),
            began=context["dag_run"].start_date,
            run_url=ti.log_url.partition("/tasks/")[0],
        )
        text = report(verdict)
        for line in text.splitlines():
            self.log.info("%s", line)
        self.verdict = rendered(text)
        unwritten = write(verdict, self.folder)
        if not unwritten:
            publish(self.folder / Verdict.FILE)  # before the note, which shows that the run has its verdict
        if needs_notice(verdict):
            self.notify_once(partial(notify, verdict), context)
        # After the notification: to missing_verdicts.py, this note marks the run as finished.
        ti.xcom_push(key=NOTE_KEY, value=note(verdict))
        ti.xcom_push(key="return_value", value=verdict.model_dump(mode="json"))
        self._settle()
        if unwritten:
            raise unwritten
        if verdict.outcome is Outcome.FAILED:
            raise AirflowFailException(verdict.summary)

    def _settle(self) -> None:
        """Hide an unverified release, after the note and the notification, which must not wait for a model server."""
        try:
            self.settle_releases()
        except Exception:
            self.log.exception("an unverified release could not be hidden")

    def _upstream(self) -> set[str]:
        return self.get_flat_relative_ids(upstream=True)


def durations(ti: RuntimeTaskInstanceProtocol, failed: list[str]) -> dict[str, str]:
    """Return how long each failed task's last try that began ran. The Task SDK does not know the host."""
    try:
        known = list(ti.get_task_breadcrumbs(ti.dag_id, ti.run_id)) if failed else []
    except Exception:  # a verdict without durations is better than none
        log.exception("Airflow does not say how long the failed tasks ran")
        return {}
    seconds = {task["task_id"]: task["duration"] for task in known}
    return {task: ran_for(seconds[task]) for task in failed if seconds.get(task)}


def ran_for(seconds: float, host: str = "") -> str:
    """Say how long a try ran and, if known, on which host."""
    return f"for {dt.timedelta(seconds=round(seconds))}{f' on {host}' if host else ''}"


def needs_notice(verdict: Verdict) -> bool:
    """Return whether to notify: the night was held, failed or had no data, or production was damaged."""
    return bool(verdict.damage) or verdict.outcome not in (Outcome.RELEASED, Outcome.ACCEPTED)


def notify(verdict: Verdict, context: Context) -> None:
    """Send the verdict to the channels that are set up."""
    VerdictNotifier(verdict, run_url=verdict.run_url, page_url=night_url(verdict.model, verdict.run_id))(context)
