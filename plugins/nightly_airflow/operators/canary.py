"""The tasks of the DAG `canary`: compare a canary with production, then promote it, stop it, or wait."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightly.canary.report import headline, report
from nightly.nights.report import NOTE_LIMIT
from nightly.records.canary import CanaryRequest, Comparison, Look
from nightly_airflow.hooks.where import Runner, runner_of
from nightly_airflow.note import NOTE_KEY
from nightly_airflow.operators.base import NightOperator, refuse_unknown_keys, rendered

if TYPE_CHECKING:
    from airflow.sdk import Context


class CompareOperator(NightOperator):
    """Joins the labels known by now to the predictions logged since the canary began, and compares the two versions.

    Changes nothing. Skipped when the model has no canary, or the run is for another model.

    :param chosen: the only model that the run is for; "" for all models
    :param decision: auto, or a person's decision: promote, stop
    :param reason: the reason for a person's decision
    """

    template_fields = (*NightOperator.template_fields, "chosen", "decision", "reason")
    ui_color = "#e8f0fe"

    def __init__(self, *, chosen: str = "", decision: str = "auto", reason: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chosen = chosen
        self.decision = decision
        self.reason = reason

    @cached_property
    def hook(self) -> Runner:
        return runner_of(self, "canary")

    def perform(self, context: Context) -> dict[str, Any]:
        refuse_unknown_keys(context)
        if self.decision != "auto" and not (self.chosen and self.reason.strip()):
            raise AirflowFailException(f"to {self.decision} a canary, choose its model and give a reason")
        if self.chosen not in ("", self.model):
            raise AirflowSkipException(f"this run is for {self.chosen}")
        CanaryRequest(
            model=self.model,
            decision=self.decision,
            reason=self.reason.strip(),
            requested_by=context["dag_run"].triggering_user_name or "somebody, by the command line",
            run_id=self.run_id,
        ).save(self.folder / CanaryRequest.FILE)
        result = self.hook.run("nightly.canary.decide:compare_step", self.folder, self.log)
        if not result.get("look") and not result.get("unfinished"):
            raise AirflowSkipException(f"{self.model} has no canary")
        return result

    def on_kill(self) -> None:
        self.hook.kill()


class DecideOperator(NightOperator):
    """Carries out the decision of the comparison or a person, and shows it in the run's note, rendered text and log.

    Every decision is a success. A rerun completes an unfinished decision.
    """

    template_fields = (*NightOperator.template_fields, "comparison")
    overwrite_rtif_after_execution = True  # the rendered text is known only after execution
    ui_color = "#e6f4ea"

    def __init__(self, *, comparison: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.comparison = comparison

    @cached_property
    def hook(self) -> Runner:
        return runner_of(self, "canary")

    def perform(self, context: Context) -> dict[str, Any]:
        result = self.hook.run("nightly.canary.decide:decide_step", self.folder, self.log)
        comparison = Comparison.parse(result, where="the result of the decision")
        look = Look.load(self.folder / Look.FILE) if (self.folder / Look.FILE).exists() else None
        text = report(self.model, comparison, look)
        for line in text.splitlines():
            self.log.info("%s", line)
        self.comparison = rendered(text)
        context["ti"].xcom_push(key=NOTE_KEY, value=f"**{headline(self.model, comparison, look)}**"[:NOTE_LIMIT])
        return result

    def on_kill(self) -> None:
        self.hook.kill()
