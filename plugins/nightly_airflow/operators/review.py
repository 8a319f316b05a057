"""The data gate, and the review of a schema change that would lift its hold: a person approves or rejects it."""

from __future__ import annotations

import datetime as dt
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from nightly.models import config_of
from nightly.records.night import GateResult, utc_now
from nightly.records.schema import SchemaChange, SchemaProposal, SchemaReview
from nightly.records.tasks import REVIEW
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore
from nightly.schemas.reviews import save_review, set_aside_review
from nightly.schemas.store import SchemaVersionError, answer
from nightly_airflow.notifiers.verdict import VerdictNotifier
from nightly_airflow.operators.base import NightOperator
from nightly_airflow.operators.ml import GateOperator
from nightly_airflow.web.address import night_url

if TYPE_CHECKING:
    from airflow.sdk import Context

PHRASES = {
    "new column": "the new column {}",
    "new values": "new values of {}",
    "type": "another type of {}",
    "range": "a wider range of {}",
    "presence": "fewer values of {}",
}


class DataGateOperator(GateOperator):
    """The data gate. If a schema change would lift its hold, the night waits for a person's review."""

    def tasks_to_skip(self, context: Context, stop: bool) -> list[Any]:
        if stop and self._waits():
            return []
        tasks = [context["task"].dag.get_task(task) for task in REVIEW]
        return list({task.task_id: task for task in [*super().tasks_to_skip(context, stop), *tasks]}.values())

    def _waits(self) -> bool:
        if not (self.folder / SchemaProposal.FILE).exists():
            return False
        proposal, night = SchemaProposal.load(self.folder / SchemaProposal.FILE), self.night()
        self.log.info("a change of the schema is proposed:\n%s", proposal.diff)
        by_command = f"`bin/schema approve {night.model} '{night.run_id}' --reason …` accepts it for later nights"
        if not proposal.lifts:
            self.log.warning("with it the night would still be held: %s. %s", "; ".join(proposal.left), by_command)
        elif night.trigger == "backfill":
            self.log.warning("a backfill does not wait for an answer. %s", by_command)
        elif not config_of(night).schema_review.hours:
            self.log.warning("schema_review.hours is 0: no night waits. %s", by_command)
        else:
            return True
        return False


class SchemaReviewOperator(NightOperator, ApprovalOperator):
    """Shows the proposed change with its evidence and waits for an answer, deferred, without a process.

    Approval writes the new version and reruns the data gate. If a person rejects the change or does not answer in
    time, the night stays held. schema_review.json records who answered, and why.

    :param hours: how long it waits for an answer
    """

    ui_color = "#fdebd0"

    def __init__(self, *, hours: float, **kwargs: Any) -> None:
        reason = Param("", type="string", title="Reason", source="task", description="Recorded with your answer.")
        super().__init__(
            subject="Approve a change of the schema?",
            defaults=self.REJECT,
            response_timeout=dt.timedelta(hours=hours) if hours else None,
            **{**kwargs, "params": {"reason": reason}},  # not the DAG's params, which kwargs holds
        )
        self.hours = hours

    def perform(self, context: Context) -> None:
        proposal = SchemaProposal.load(self.folder / SchemaProposal.FILE)
        set_aside_review(self.folder)
        asked = self.folder / SchemaProposal.ASKED_FILE
        if asked.exists() and SchemaProposal.load(asked).text != proposal.text:
            # Airflow shows a run's first question even after clearing: a person would approve what is not shown.
            command = f"bin/schema approve {self.model} '{self.run_id}' --reason …"
            self._stays_held(context, f"Airflow shows only a run's first proposal, and this is another; `{command}`")
        proposal.save(asked)
        self.subject = f"{proposal.model}, {proposal.as_of:%Y-%m-%d}: approve {summary(proposal)}?"
        self.body = body(proposal, self.hours)
        self.notify_once(self._notify, context)
        ApprovalOperator.execute(self, context)  # does not return

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        return self.run_recording_errors(partial(self._answered, event), context)

    def _answered(self, event: dict[str, Any], context: Context) -> Any:
        if event.get("timedout"):
            self._stays_held(context, f"nobody answered within {self.hours:g} hours")
        if "error" in event:
            raise AirflowFailException(f"the answer could not be read: {event['error']}")
        user = event["responded_by_user"] or {}
        try:
            review = answer(
                self.paths,
                self.model,
                self.folder,
                approved=event["chosen_options"] == [self.APPROVE],
                by=user.get("name") or user.get("id") or "somebody",
                reason=(event["params_input"] or {}).get("reason") or "",
            )
        except SchemaVersionError as error:  # the task's retry asks again
            self.log.error("%s", error)
            self.notification_mark(context).unlink(missing_ok=True)  # so that the retry notifies the person again
            raise
        self.log.info("%s", review.sentence)
        return ApprovalOperator.execute_complete(self, context, event)

    def _stays_held(self, context: Context, why: str) -> NoReturn:
        review = save_review(self.folder, SchemaReview(decision="unanswered", by="", reason=why, answered_at=utc_now()))
        self.log.warning("%s; the night stays held", review.sentence)
        self.skip(context["ti"], context["task"].get_direct_relatives(upstream=False))  # raises
        raise AirflowFailException("there is no downstream task to skip")

    def waiting(self) -> Verdict:
        """Return the notification's verdict: the night waits for an answer."""
        proposal = SchemaProposal.load(self.folder / SchemaProposal.FILE)
        gate = GateResult.load(self.folder / GateResult.DATA_FILE)
        return Verdict(
            model=self.model,
            run_id=self.run_id,
            outcome=Outcome.HELD_DATA,
            summary=f"the night waits {self.hours:g} hours for a person to approve {summary(proposal)}",
            reasons=gate.reasons,
            production_version=ReleaseStore(self.paths.serving, self.paths.releases, self.model).disk.production(),
            as_of=proposal.as_of,
            decided_at=utc_now(),
        )

    def _notify(self, context: Context) -> None:
        link = self.generate_link_to_ui_from_context(context=context)
        VerdictNotifier(self.waiting(), run_url=link, page_url=night_url(self.model, self.run_id))(context)


def summary(proposal: SchemaProposal) -> str:
    """Return the changes in a few words: `new values of payment_type`."""
    phrases = [PHRASES[change.kind].format(change.feature) for change in proposal.changes]
    phrases = phrases if len(phrases) <= 3 else [*phrases[:2], f"{len(phrases) - 2} more changes"]
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def body(proposal: SchemaProposal, hours: float) -> str:
    """Return the proposal as Markdown. Names and values come from the data, and are escaped."""
    lines = [
        "The data gate held this night, and nothing else would if the schema were changed like this. **Approve** only "
        "what is right: the night then goes on with it, and so do later ones. **Reject**, or no answer within "
        f"{hours:g} hours, leaves the night held and the version in production where it is.",
        "",
        *(line for change in proposal.changes for line in _change(change)),
        "### The change",
        "",
        *_fenced(proposal.diff, "diff"),
    ]
    return "\n".join(lines)


def _change(change: SchemaChange) -> list[str]:
    was = f"{_escaped(change.old)} → " if change.old else ""
    values = "; ".join(f"{_escaped(v.value)}: {v.rows:,} rows ({v.share:.1%})" for v in change.values)
    where = f" E.g. {', '.join(map(_escaped, change.rows))}." if change.rows else ""
    return [
        f"### {_escaped(change.feature)}: {change.kind}",
        "",
        f"- **Change**: {was}{_escaped(change.new)}",
        f"- **Observed**: {values or 'no value'}.{where}",
        f"- **Risk**: {_escaped(change.risk)}",
        "",
    ]


def _escaped(text: str) -> str:
    """Return the text on one line, escaped for Markdown and HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&$])", r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str) -> list[str]:
    """Return a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text, fence]
