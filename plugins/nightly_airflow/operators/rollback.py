"""Rolls production back to an earlier version, at a person's request."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from nightly.records.release import Rollback
from nightly_airflow.hooks.where import Runner, runner_of
from nightly_airflow.operators.base import NightOperator, refuse_unknown_keys

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackOperator(NightOperator):
    """Puts `version` into production and quarantines every newer one; no retry releases them again.

    A rerun completes an unfinished rollback, and goes no further back.

    :param version: the version's number, or `previous`
    :param reason: goes into the records of the rollback and of each quarantined version
    """

    template_fields = (*NightOperator.template_fields, "version", "reason")
    ui_color = "#fce8e6"

    def __init__(self, *, version: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.reason = reason

    @cached_property
    def hook(self) -> Runner:
        return runner_of(self, "rollback")

    def perform(self, context: Context) -> dict[str, Any]:
        if not (self.folder / Rollback.FILE).exists():
            self._request(context).save(self.folder / Rollback.FILE)
        result = self.hook.run("nightly.serving.rollback:step", self.folder, self.log)
        rollback = Rollback.parse(result, where="the rollback step's result")
        self.log.info(
            "%s is at %s, before %s; quarantined: %s; %s",
            rollback.model,
            rollback.version,
            rollback.from_version,
            ", ".join(map(str, rollback.withdrawn)) or "none",
            f"confirmed by the server at {rollback.server}" if rollback.server else "no model server is configured",
        )
        return result

    def _request(self, context: Context) -> Rollback:
        refuse_unknown_keys(context)
        version = self.version.strip()
        if version != "previous" and not version.isdecimal():
            raise AirflowFailException(f"{self.version!r} is not a version: give its number, or `previous`")
        if not self.reason.strip():
            raise AirflowFailException("a rollback needs a reason")
        return Rollback(
            model=self.model,
            version=None if version == "previous" else int(version),
            reason=self.reason.strip(),
            requested_by=context["dag_run"].triggering_user_name or "somebody, by the command line",
            run_id=self.run_id,
        )

    def on_kill(self) -> None:
        self.hook.kill()
