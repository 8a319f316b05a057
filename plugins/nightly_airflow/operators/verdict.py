"""The last task: says in one look what became of the night, whatever happened."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from nightly.nights.report import note, report
from nightly.nights.verdict import judge, write
from nightly.records.night import utc_now
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow.note import NOTE_KEY
from nightly_airflow.notifiers.verdict import VerdictNotifier
from nightly_airflow.operators.base import ERROR_KEY, NightOperator, rendered
from nightly_airflow.operators.plan import asked_for
from nightly_airflow.web.address import night_url

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class VerdictOperator(NightOperator):
    """Writes verdict.json (contract Verdict) and shows it: in the run's note, its rendered text, and the log.

    A failed night fails here, so that the run is red. A held one does not: the gates did their work, and an alert
    for broken runs must not ring for it. What tells it from a release in one look is the run's note and the row of
    skipped tasks; whoever wants to be told sets up the notifier.
    """

    template_fields = (*NightOperator.template_fields, "verdict")
    overwrite_rtif_after_execution = True  # the rendered text is known only then
    ui_color = "#e6f4ea"

    def __init__(self, *, verdict: str = "", **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)
        self.verdict = verdict

    def execute(self, context: Context) -> None:
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
            as_of=asked_for(context["dag_run"], utc_now()),
            run_url=ti.log_url.partition("/tasks/")[0],
        )
        text = report(verdict)
        for line in text.splitlines():
            self.log.info("%s", line)
        self.verdict = rendered(text)
        unwritten = write(verdict, self.folder)
        if needs_notice(verdict):
            self.notify_once(partial(notify, verdict), context)
        # After the notification: missing_verdicts.py takes a run that has this note for finished.
        ti.xcom_push(key=NOTE_KEY, value=note(verdict))
        ti.xcom_push(key="return_value", value=verdict.model_dump(mode="json"))
        self._settle()
        if unwritten:
            raise unwritten
        if verdict.outcome is Outcome.FAILED:
            raise AirflowFailException(verdict.summary)

    def _settle(self) -> None:
        """Runs after the note and the notification, which must not wait for a model server."""
        try:
            self.settle_releases()
        except Exception:
            self.log.exception("what a release left could not be taken out of sight")

    def _upstream(self) -> set[str]:
        return self.get_flat_relative_ids(upstream=True)


def needs_notice(verdict: Verdict) -> bool:
    """Return whether a notification is sent: the night was held, failed or had no data, or production was damaged."""
    return bool(verdict.damage) or verdict.outcome not in (Outcome.RELEASED, Outcome.ACCEPTED)


def notify(verdict: Verdict, context: Context) -> None:
    """Send the verdict wherever Airflow's connections point."""
    VerdictNotifier(verdict, run_url=verdict.run_url, page_url=night_url(verdict.model, verdict.run_id))(context)
