"""Production goes back to an earlier version, because a person says so."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from nightly.records.release import Rollback
from nightly_airflow.hooks.ml import MLHook
from nightly_airflow.operators.base import NightOperator, refuse_unknown_keys

if TYPE_CHECKING:
    from airflow.sdk import Context

REQUEST = "rollback.json"  # in the run's folder; nightly.serving.rollback reads it and writes what came of it


class RollbackOperator(NightOperator):
    """Makes `version` the one in production; every newer one is quarantined, and no retry releases it again.

    Run again, it completes what it began, and goes no further back.

    :param version: its number, or `previous`
    :param reason: stands in the record of the rollback, and in that of each version taken back
    """

    template_fields = (*NightOperator.template_fields, "version", "reason")
    ui_color = "#fce8e6"

    def __init__(self, *, version: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.reason = reason

    @cached_property
    def hook(self) -> MLHook:
        return MLHook()

    def perform(self, context: Context) -> dict[str, Any]:
        if not (self.folder / REQUEST).exists():
            self._request(context).save(self.folder / REQUEST)
        result = self.hook.run("nightly.serving.rollback:step", self.folder, self.log)
        done = Rollback.parse(result, where="the rollback step's result")
        self.log.info(
            "%s is at %s, before %s; quarantined: %s; %s",
            done.model,
            done.version,
            done.from_version,
            ", ".join(map(str, done.withdrawn)) or "none",
            f"confirmed by the server at {done.server}" if done.server else "no model server is configured",
        )
        return result

    def _request(self, context: Context) -> Rollback:
        refuse_unknown_keys(context)
        version = self.version.strip()
        if version != "previous" and not version.isdecimal():
            raise AirflowFailException(f"{self.version!r} is no version: give its number, or `previous`")
        if not self.reason.strip():
            raise AirflowFailException("a rollback needs a reason: the one who finds it tomorrow will ask")
        return Rollback(
            model=self.model,
            version=None if version == "previous" else int(version),
            reason=self.reason.strip(),
            requested_by=context["dag_run"].triggering_user_name or "somebody, by the command line",
            run_id=self.run_id,
        )

    def on_kill(self) -> None:
        self.hook.kill()
