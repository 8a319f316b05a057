"""The first task of a night: writes its request."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from nightly.models import config_of, load_config
from nightly.nights.plan import RunRequest, plan, read_as_of
from nightly.nights.space import check_night
from nightly.records.base import ContractError
from nightly.records.night import Night, Trigger, utc_now
from nightly.records.release import ReleaseRecord
from nightly.records.schema import SchemaProposal
from nightly.release.errors import DamagedError
from nightly.release.store import ReleaseStore
from nightly.schemas.reviews import set_aside_review
from nightly_airflow.hooks.ml import MLHook, MLStepFailed
from nightly_airflow.hooks.where import Runner, runner_of
from nightly_airflow.operators.base import NightOperator, refuse_unknown_keys

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import DagRunProtocol

BEAM_CHECK = "nightly.engines.beam:check"  # fails here on a wrong option, and not an hour later
PREPARE = "nightly.tfx.production:prepare"


class PlanOperator(NightOperator):
    """Writes the run's request.json (contract Night) and starts the warm host of the ML environment, if steps use it.

    A rerun plans again, unless the run has released already: then its request stays as it was.
    """

    @cached_property
    def runner(self) -> Runner:
        return runner_of(self, "plan")

    def perform(self, context: Context) -> dict[str, Any]:
        warn_of_missing_notes(context, self.log)
        if self._released():
            night = self.night()
            self.log.info("this run has released already; its request of %s stays", night.planned_at)
        else:
            refuse_unknown_keys(context)
            check_night(self.paths, self.model)
            try:
                night = self._plan(context)
            except ContractError as error:
                raise AirflowFailException(str(error)) from None  # a retry would raise the same error
            night.save(self.folder / Night.FILE)
            # A proposal is of an earlier try, whose data may have differed.
            (self.folder / SchemaProposal.FILE).unlink(missing_ok=True)
            set_aside_review(self.folder)
        self.settle_releases()
        if load_config(self.model).run.on_hosts:
            MLHook(paths=self.paths).start_host()  # warm by the end of the download
        if config_of(night).pipeline.engine == "beam":
            try:
                self.runner.run(BEAM_CHECK, self.folder, self.log)
            except MLStepFailed as error:
                raise AirflowFailException(str(error)) from None
        if self._production_is_damaged(night):
            self.runner.run(PREPARE, self.folder, self.log)
            night = self.night()
        self.log.info(
            "%s night of %s for %s: as of %s, from %s, %d train steps, %s; in production: %s; code %s",
            night.trigger,
            night.model,
            night.requested_by,
            night.as_of,
            night.window_start,
            night.train_steps,
            "to be released" if night.release else "not to be released",
            night.in_production or "nothing",
            night.code_version,
        )
        if night.schema_note:
            self.log.info("schema: %s", night.schema_note)
        for key, value in night.overrides.items():
            self.log.warning("for this run only: %s = %s, because: %s", key, value, night.override_reason)
        return night.model_dump(mode="json")

    def _production_is_damaged(self, night: Night) -> bool:
        """Return whether files in production are damaged or lost: they are repaired, or the night judged without."""
        if night.production_version is None:
            return False
        disk = ReleaseStore(self.paths.serving, self.paths.releases, self.model).disk
        if (lost := disk.lost_production()) is not None:
            self.log.error("%s is in production by its record, and is not there", disk.path(lost))
            return True
        try:
            disk.verify(night.production_version)
        except DamagedError as error:
            self.log.error("%s", error)
            return True
        return False

    def _released(self) -> bool:
        record = self.folder / ReleaseRecord.FILE
        return record.exists() and ReleaseRecord.load(record).state in ("released", "canary")

    def _plan(self, context: Context) -> Night:
        run_url = context["ti"].log_url.partition("/tasks/")[0]
        request = request_of(context["dag_run"], context["params"], now := utc_now(), run_url)
        return plan(self.paths, self.model, request, now)


def warn_of_missing_notes(context: Context, log: logging.Logger) -> None:
    """Say so if the last successful run has no note: then no scheduler loads the plugin."""
    before = context["ti"].get_previous_dagrun(state="success")
    if before and before.note is None:
        log.warning(
            "the run %s has ended without a note, so this Airflow's scheduler does not load the plugin. Runs get no "
            "note, and a night whose task `verdict` dies gets no verdict. Nights are shown on the page Nights, and in "
            "the task `verdict`: its log and its rendered template",
            before.run_id,
        )


def request_of(run: DagRunProtocol, params: Mapping[str, Any], now: dt.datetime, run_url: str = "") -> RunRequest:
    """Return the request of a run of the DAG, from its type and its params."""
    trigger = _trigger(run)
    return RunRequest(
        run_id=run.run_id,
        trigger=trigger,
        requested_by=run.triggering_user_name or ("the schedule" if trigger == "scheduled" else trigger),
        time=date_of(run, now),
        as_of=params["as_of"],
        # A backfill retrains the past: it judges, but does not release unless asked to.
        release=params["release"] == "yes" or (params["release"] == "auto" and trigger != "backfill"),
        look_back_days=params["look_back_days"],
        train_steps=params["train_steps"],
        fresh=params["fresh"],
        thresholds=params["thresholds"] or {},
        reason=params["reason"] or "",
        run_url=run_url,
    )


def _trigger(run: DagRunProtocol) -> Trigger:
    """Return the run's trigger; runs that another DAG or an asset started count as manual."""
    kinds: dict[str, Trigger] = {"scheduled": "scheduled", "backfill": "backfill"}
    return kinds.get(str(getattr(run.run_type, "value", run.run_type)), "manual")


def requested_as_of(run: DagRunProtocol, now: dt.datetime) -> dt.datetime:
    """Return the as-of time in the run's conf, or `date_of` the run if there is no valid one. Never raises."""
    try:
        return read_as_of((run.conf or {})["as_of"], now)
    except (ContractError, KeyError, TypeError):
        return date_of(run, now)


def date_of(run: DagRunProtocol, now: dt.datetime) -> dt.datetime:
    """Return the end of the run's data interval; for a manual run its logical date, but at most `now`.

    A manual run's data interval is ignored: it is the schedule's last one before now, whatever its logical date.
    """
    if _trigger(run) != "manual" and run.data_interval_end:
        return run.data_interval_end
    return min(run.logical_date or now, now)
