"""The first task: fixes what the night is asked to do, before anything is done."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowFailException

from nightly.io.code import code_version
from nightly.io.hints import did_you_mean
from nightly.models import config_of, load_config
from nightly.nights.as_of import read_as_of
from nightly.nights.space import check_night
from nightly.records.base import ContractError
from nightly.records.columns import CuratedSchema
from nightly.records.config import ModelConfig
from nightly.records.night import Night, utc_now
from nightly.records.release import ReleaseRecord
from nightly.records.schema import PROPOSAL
from nightly.release.errors import DamagedError
from nightly.release.store import ReleaseStore
from nightly.schemas.reviews import set_aside_review
from nightly.schemas.store import SchemaStore
from nightly_airflow.hooks.ml import MLHook, MLStepFailed
from nightly_airflow.operators.base import NightOperator, refuse_unknown_keys

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import DagRunProtocol

BEAM_CHECK = "nightly.engines.beam:check"  # so that a wrong option stops the night here, and not in an hour
PREPARE = "nightly.tfx.production:prepare"
Trigger = Literal["scheduled", "manual", "backfill"]


class PlanOperator(NightOperator):
    """Writes the run's request.json (contract Night) and begins to warm the ML environment.

    Running it again plans again, unless the run has released already: then its request stands as it was.
    """

    def perform(self, context: Context) -> dict[str, Any]:
        if self._released():
            night = self.night()
            self.log.info("this run has released already; its request of %s stands", night.planned_at)
        else:
            refuse_unknown_keys(context)
            check_night(self.places, self.model)
            try:
                night = self._plan(context)
            except ContractError as error:
                raise AirflowFailException(str(error)) from None  # asking again would give the same answer
            night.save(self.folder / "request.json")
            (self.folder / PROPOSAL).unlink(missing_ok=True)  # by an earlier try, whose data may have been others
            set_aside_review(self.folder)
        self.settle_releases()
        hook = MLHook()
        hook.start_host()  # warm by the time that the download has come
        if config_of(night).pipeline.engine == "beam":
            try:
                hook.run(BEAM_CHECK, self.folder, self.log)
            except MLStepFailed as error:
                raise AirflowFailException(str(error)) from None
        if self._production_is_damaged(night):
            hook.run(PREPARE, self.folder, self.log)
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
        """Whether the files in production have to be repaired, or the night to be judged without them."""
        if night.production_version is None:
            return False
        try:
            ReleaseStore(self.places.serving, self.places.releases, self.model).disk.verify(night.production_version)
        except DamagedError as error:
            self.log.error("%s", error)
            return True
        return False

    def _released(self) -> bool:
        record = self.folder / "release.json"
        return record.exists() and ReleaseRecord.load(record).state in ("released", "canary")

    def _plan(self, context: Context) -> Night:
        ti, schemas, params = context["ti"], SchemaStore(self.places, self.model), context["params"]
        schema_version = schemas.current()
        schema = CuratedSchema(schemas.path(schema_version), schemas.text(schema_version))
        refuse_unknown_comparators(params["thresholds"] or {}, schema)
        return plan_night(
            load_config(self.model),
            context["dag_run"],
            params,
            now=utc_now(),
            code_version=code_version(),
            production_version=ReleaseStore(self.places.serving, self.places.releases, self.model).disk.production(),
            schema_version=schema_version,
            schema_note=schemas.note(schema_version),
            run_url=ti.log_url.partition("/tasks/")[0],
        )


def plan_night(
    config: ModelConfig,
    run: DagRunProtocol,
    params: Mapping[str, Any],
    *,
    now: dt.datetime,
    code_version: str,
    production_version: int | None,
    schema_version: int = 0,
    schema_note: str = "",
    run_url: str,
) -> Night:
    """What `run` asks for. Raises ContractError for what cannot be asked."""
    trigger, steps, days = _trigger(run), params["train_steps"], params["look_back_days"]
    as_of = _as_of(config, run, trigger, params["as_of"], now)
    overrides, reason = params["thresholds"] or {}, (params["reason"] or "").strip()
    if overrides and not reason:
        raise ContractError("thresholds are overridden for this run without a reason: say why in `reason`")
    config.with_overrides(overrides)  # refuses what is not a threshold
    for name, value in (("train_steps", steps), ("look_back_days", days)):
        if value is not None and value < 1:
            raise ContractError(f"{name} is {value}: give 1 or more, or leave it out")
    try:
        window_start = config.data.window_start(as_of, days)
    except OverflowError:
        raise ContractError(f"no window of {days or config.data.look_back_days} days ends at {as_of}") from None
    return Night(
        model=config.name,
        run_id=run.run_id,
        trigger=trigger,
        requested_by=run.triggering_user_name or ("the schedule" if trigger == "scheduled" else trigger),
        as_of=as_of,
        window_start=window_start,
        # A backfill retrains the past: it judges, and leaves what is in production alone unless asked to.
        release=params["release"] == "yes" or (params["release"] == "auto" and trigger != "backfill"),
        train_steps=config.training.steps if steps is None else steps,
        fresh=params["fresh"],
        overrides=overrides,
        override_reason=reason,
        code_version=code_version,
        production_version=production_version,
        schema_version=schema_version,
        schema_note=schema_note,
        run_url=run_url,
        planned_at=now,
    )


def refuse_unknown_comparators(overrides: Mapping[str, Any], schema: CuratedSchema) -> None:
    """Raise ContractError for a drift.FEATURE or skew.FEATURE that the schema has no comparator for."""
    for key in overrides:
        kind, _, feature = key.partition(".")
        if kind in ("drift", "skew") and feature not in (names := schema.comparators(kind)):
            hint = did_you_mean(feature, names)
            raise ContractError(f"threshold {key!r}: the schema has no {kind} comparator for {feature!r}{hint}")


def _trigger(run: DagRunProtocol) -> Trigger:
    """Runs that another DAG or an asset started are manual ones to us: nothing but the schedule is scheduled."""
    kinds: dict[str, Trigger] = {"scheduled": "scheduled", "backfill": "backfill"}
    return kinds.get(str(getattr(run.run_type, "value", run.run_type)), "manual")


def asked_for(run: DagRunProtocol, now: dt.datetime) -> dt.datetime:
    """The as-of time that a run asks for, where that can be read; else the time that it is for. Never raises."""
    try:
        return read_as_of((run.conf or {})["as_of"], now)
    except (ContractError, KeyError, TypeError):
        return date_of(run, now)


def date_of(run: DagRunProtocol, now: dt.datetime) -> dt.datetime:
    """The time that a run is for, whatever it is asked: the end of its data interval; of a manual run its date or now.

    A manual run's data interval is the schedule's last one before now, whatever its date: it is of no use here.
    """
    if _trigger(run) != "manual" and run.data_interval_end:
        return run.data_interval_end
    return min(run.logical_date or now, now)


def _as_of(
    config: ModelConfig, run: DagRunProtocol, trigger: Trigger, asked: str | None, now: dt.datetime
) -> dt.datetime:
    """What was asked for; else the time that the run is for, of a manual one not after the source's history."""
    if asked:
        return read_as_of(asked, now)
    as_of = date_of(run, now)
    if trigger != "manual":
        return as_of
    ended_on = config.source.ended_on
    return min(as_of, dt.datetime.combine(ended_on, dt.time(), dt.UTC)) if ended_on else as_of
