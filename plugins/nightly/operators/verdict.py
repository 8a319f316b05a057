"""The last task: says in one look what became of the night, whatever happened."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from include.contracts.base import ContractError
from include.contracts.night import utc_now
from include.contracts.verdict import Outcome, Verdict
from include.nights.report import note, report
from include.nights.verdict import decide
from include.release.store import ReleaseStore
from nightly.notifiers.verdict import VerdictNotifier
from nightly.operators.base import NightOperator, rendered
from nightly.operators.plan import asked_for
from nightly.web.address import night_url

if TYPE_CHECKING:
    from airflow.sdk import Context

NOTE_KEY = "note"  # the XCom that becomes the run's note (nightly_plugin.py)


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
        verdict = decide(
            self.model,
            self.run_id,
            self.folder,
            {task: states.get(task) for task in order},
            tries={task.task_id: (task.retries or 0) + 1 for task in self.dag.tasks},
            production=self._production(),
            as_of=asked_for(context["dag_run"], utc_now()),
            run_url=ti.log_url.partition("/tasks/")[0],
        )
        verdict.save(self.folder / "verdict.json")
        text = report(verdict)
        for line in text.splitlines():
            self.log.info("%s", line)
        self.verdict = rendered(text)
        ti.xcom_push(key=NOTE_KEY, value=note(verdict))
        ti.xcom_push(key="return_value", value=verdict.model_dump(mode="json"))
        if verdict.damage or verdict.outcome not in (Outcome.RELEASED, Outcome.ACCEPTED):
            self.notify_once(partial(self._notify, verdict), context)
        self._settle()
        if verdict.outcome is Outcome.FAILED:
            raise AirflowFailException(verdict.summary)

    def _settle(self) -> None:
        """After the verdict is told, which must not wait for a model server."""
        try:
            self.settle_releases()
        except Exception:
            self.log.exception("what a release left could not be taken out of sight")

    def _upstream(self) -> set[str]:
        return self.get_flat_relative_ids(upstream=True)

    def _production(self) -> int | None:
        try:
            return ReleaseStore(self.places.serving, self.places.releases, self.model).production()
        except (ContractError, OSError):  # a damaged record must not cost the verdict
            self.log.exception("what is in production cannot be read; the verdict says what the night knew of it")
            return None

    def _notify(self, verdict: Verdict, context: Context) -> None:
        VerdictNotifier(verdict, run_url=verdict.run_url, page_url=night_url(self.model, self.run_id))(context)
