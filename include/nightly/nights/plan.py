"""Plan a night: fix all its inputs before its first step, for Airflow's runs and for bin/night."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nightly.io.code import code_version
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.models import load_config, read_schema_text
from nightly.records.base import ContractError
from nightly.records.columns import CuratedSchema
from nightly.records.config import ModelConfig
from nightly.records.night import Night, Trigger
from nightly.release.store import ReleaseStore
from nightly.schemas.store import SchemaStore


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a person or the schedule requests of a run. Where a field is None, the model's config decides.

    :ivar time: the run's as-of time if `as_of` is None
    :ivar as_of: the window's end, as text
    :ivar thresholds: thresholds to override in this run, because of `reason`
    """

    run_id: str
    trigger: Trigger
    requested_by: str
    time: dt.datetime
    release: bool
    as_of: str | None = None
    look_back_days: int | None = None
    train_steps: int | None = None
    fresh: bool = False
    source_address: str = ""
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    run_url: str = ""


def plan(paths: Paths, model: str, request: RunRequest, now: dt.datetime) -> Night:
    """Return the requested night, with the current production version and schema. Writes nothing.

    Raises ContractError for an invalid request, SchemaVersionError and ReleaseError.
    """
    config, schemas = load_config(model), SchemaStore(paths, model)
    read_schema_text(config)
    schema_version = schemas.current()
    schema = CuratedSchema(schemas.path(schema_version), schemas.text(schema_version))
    refuse_unknown_comparators(request.thresholds, schema)
    return plan_night(
        config,
        request,
        now=now,
        code_version=code_version(),
        production_version=ReleaseStore(paths.serving, paths.releases, model).disk.production(),
        schema_version=schema_version,
        schema_note=schemas.note(schema_version),
    )


def plan_night(
    config: ModelConfig,
    request: RunRequest,
    *,
    now: dt.datetime,
    code_version: str,
    production_version: int | None,
    schema_version: int = 0,
    schema_note: str = "",
) -> Night:
    """Return the requested night. Raises ContractError for an invalid request."""
    as_of, steps, days = _as_of(config, request, now), request.train_steps, request.look_back_days
    if request.thresholds and not request.reason.strip():
        raise ContractError("thresholds are overridden for this run without a reason: say why in `reason`")
    config.with_overrides(request.thresholds)  # refuses what is not a threshold
    for name, value in (("train_steps", steps), ("look_back_days", days)):
        if value is not None and value < 1:
            raise ContractError(f"{name} is {value}: give 1 or more, or leave it out")
    try:
        window_start = config.data.window_start(as_of, days)
    except OverflowError:
        raise ContractError(f"no window of {days or config.data.look_back_days} days ends at {as_of}") from None
    return Night(
        model=config.name,
        run_id=request.run_id,
        trigger=request.trigger,
        requested_by=request.requested_by,
        as_of=as_of,
        window_start=window_start,
        release=request.release,
        train_steps=config.training.steps if steps is None else steps,
        fresh=request.fresh,
        source_address=request.source_address,
        overrides=dict(request.thresholds),
        override_reason=request.reason.strip(),
        code_version=code_version,
        production_version=production_version,
        schema_version=schema_version,
        schema_note=schema_note,
        run_url=request.run_url,
        planned_at=now,
    )


def read_as_of(text: str, now: dt.datetime) -> dt.datetime:
    """Parse a date or time, in UTC unless it has an offset. Raises ContractError if it is invalid or after `now`."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ContractError(f"as_of {text!r} is not a date; write 2016-03-01 or 2016-03-01T03:00:00+00:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    if moment > now:
        raise ContractError(f"as_of {text} is in the future: the latest possible is now, {now:%Y-%m-%dT%H:%M}Z")
    return moment


def refuse_unknown_comparators(thresholds: Mapping[str, Any], schema: CuratedSchema) -> None:
    """Raise ContractError for a drift.FEATURE or skew.FEATURE that the schema has no comparator for."""
    for key in thresholds:
        kind, _, feature = key.partition(".")
        if kind in ("drift", "skew") and feature not in (names := schema.comparators(kind)):
            hint = did_you_mean(feature, names)
            raise ContractError(f"threshold {key!r}: the schema has no {kind} comparator for {feature!r}{hint}")


def new_run_id(paths: Paths, model: str, now: dt.datetime) -> str:
    """Return a new run id for a command, and create its folder. Two commands may start in one second."""
    second = f"command__{now:%Y%m%dT%H%M%S}"
    run_id, number = second, 1
    while True:
        try:
            paths.night(model, run_id).mkdir(parents=True)
            return run_id
        except FileExistsError:
            number += 1
            run_id = f"{second}_{number}"


def _as_of(config: ModelConfig, request: RunRequest, now: dt.datetime) -> dt.datetime:
    """Return the requested as-of time, or else the run's time.

    A person's run of a source whose history has ended is moved back to that end.
    """
    if request.as_of:
        return read_as_of(request.as_of, now)
    ended_on = config.source.ended_on
    if request.trigger in ("scheduled", "backfill") or not ended_on:
        return request.time
    return min(request.time, dt.datetime.combine(ended_on, dt.time(), dt.UTC))
