"""The verdict on a night, from the states of its tasks and their records."""

from __future__ import annotations

import datetime as dt
import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nightly.io.paths import Paths
from nightly.models import window_end
from nightly.nights.causes import causes, headline
from nightly.records.base import Contract, ContractError
from nightly.records.night import Download, GateResult, Night, Reason, SnapshotRef, StepError, utc_now
from nightly.records.release import NotReleased, ReleaseRecord
from nightly.records.reuse import Reuse
from nightly.records.schema import SchemaReview
from nightly.records.tasks import REVIEW
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore

Kind = TypeVar("Kind", bound=Contract)
NOT_ASKED = "this run was not asked to release"

log = logging.getLogger(__name__)


def judge(model: str, run_id: str, paths: Paths, states: Mapping[str, str | None], **known: Any) -> Verdict:
    """Return the verdict on a run, with the version that is in production now, and remove errors of earlier tries.

    :param known: further arguments of `decide`
    """
    try:
        production = ReleaseStore(paths.serving, paths.releases, model).disk.production()
    except (ContractError, OSError):  # a damaged record must not cost the verdict
        log.exception("the version in production cannot be read; the verdict has the one that the night knew")
        production = None
    folder = paths.night(model, run_id)
    verdict = decide(model, run_id, folder, states, production=production, **known)
    for task, state in states.items():
        if state != "failed":  # a task that was cleared and did not begin since has the error of its earlier try
            (folder / StepError.FILE.format(task)).unlink(missing_ok=True)
    return verdict


def write(verdict: Verdict, folder: Path) -> OSError | None:
    """Write verdict.json; return the error if that fails, such as for a full disk. The verdict is shown in any case."""
    try:
        verdict.save(folder / Verdict.FILE)
    except OSError as error:
        log.error("the verdict cannot be written, only shown: %s", error)
        return error
    return None


def decide(
    model: str,
    run_id: str,
    folder: Path,
    states: Mapping[str, str | None],
    *,
    tries: Mapping[str, int] | None = None,
    errors: Mapping[str, str] | None = None,
    ran: Mapping[str, str] | None = None,
    production: int | None = None,
    as_of: dt.datetime | None = None,
    began: dt.datetime | None = None,
    run_url: str = "",
) -> Verdict:
    """Return the verdict, from the tasks' states in the order they run, and from the records of successful tasks.

    A record is read only if its task has succeeded: otherwise it may be from before the task was cleared.

    :param tries: task -> how often it is tried before it fails
    :param errors: task -> error, for failed tasks that could not write it to the folder
    :param ran: failed task -> how long its last try that began ran, and where, as far as Airflow knows
    :param production: the version in production now, by the release store
    :param as_of: the run's as-of time, used if the night was not planned
    :param began: when the run began, or was started again after tasks were cleared
    :param run_url: the run in the Airflow UI
    """

    records = _Records.read(folder, states)
    night, snapshot, release = records.night, records.snapshot, records.release
    if production is None:  # the release store was not read, so the records have to do
        released = release.version if release and release.state != "canary" else None
        production = released or (night.production_version if night else None)
    failed_task, error = _first_failure(folder, states, tries or {}, errors or {}, ran or {}, began)
    if failed_task:
        outcome, summary = Outcome.FAILED, f"{failed_task} failed: {_shorten(error)}"
    elif ended := records.ended(production):
        outcome, summary = ended
    else:
        not_done = (task for task, state in states.items() if state != "success" and task not in REVIEW)
        failed_task = next(not_done, "release")
        outcome, error = Outcome.FAILED, f"its state is {states.get(failed_task)!r}, and no gate held the night"
        summary = f"the night ended without a decision at {failed_task}: {error}"

    return Verdict(
        model=model,
        run_id=run_id,
        outcome=outcome,
        summary=summary,
        reasons=records.reasons(outcome),
        failed_task=failed_task,
        error=error,
        snapshot_id=snapshot.snapshot_id if snapshot else "",
        rows=snapshot.rows if snapshot else None,
        version=release.version if release else None,
        metrics=release.metrics if release else {},
        production_version=production,
        damage=night.damage if night else "",
        revised=records.download.revision if records.download else "",
        as_of=night.as_of if night else as_of,
        run_url=(night.run_url if night else "") or run_url,
        override_reason=night.override_reason if night else "",
        schema_version=night.schema_version if night else 0,
        schema_note=night.schema_note if night else "",
        schema_review=records.review.sentence if records.review else "",
        reused=_reused(folder, states),
        decided_at=utc_now(),
    )


@dataclass(frozen=True)
class _Records:
    """The records of the successful tasks in the night's folder."""

    night: Night | None
    download: Download | None
    snapshot: SnapshotRef | None
    data_gate: GateResult | None
    model_gate: GateResult | None
    review: SchemaReview | None
    release: ReleaseRecord | None
    not_released: NotReleased | None

    @classmethod
    def read(cls, folder: Path, states: Mapping[str, str | None]) -> _Records:
        def read(task: str, contract: type[Kind], file: str) -> Kind | None:
            path = folder / file
            return contract.load(path) if states.get(task) == "success" and path.exists() else None

        return cls(
            night=read("plan", Night, Night.FILE),
            download=read("download", Download, Download.FILE),
            snapshot=read("snapshot", SnapshotRef, SnapshotRef.FILE),
            data_gate=read("data_gate", GateResult, GateResult.DATA_FILE),
            model_gate=read("model_gate", GateResult, GateResult.MODEL_FILE),
            review=read("schema_review", SchemaReview, SchemaReview.FILE),
            release=read("release", ReleaseRecord, ReleaseRecord.FILE),
            not_released=_not_released(folder, states),
        )

    def ended(self, production: int | None) -> tuple[Outcome, str] | None:
        """Return the outcome and summary of a night without a failed task; None if no record decides it."""
        stays = self._stays(production)
        return self._held(stays) or self._released() or self._accepted(stays)

    def reasons(self, outcome: Outcome) -> list[Reason]:
        gates = [*filter(None, (self.data_gate, self.model_gate))]
        reasons = [reason for gate in gates for reason in gate.reasons]
        withdrawn = outcome is Outcome.HELD_MODEL and self.model_gate.passed
        return [*reasons, _held_back(self.not_released)] if withdrawn else reasons

    def _stays(self, production: int | None) -> str:
        if self.release:  # a gate was cleared and held after the release
            return f"version {self.release.version}, which this run released before, stays"
        return f"version {production} stays in production" if production else "nothing is in production yet"

    def _held(self, stays: str) -> tuple[Outcome, str] | None:
        night, review = self.night, self.review
        if night and self.snapshot and not self.snapshot.rows:
            return Outcome.NO_DATA, f"{self.snapshot.no_data(night.window_start, window_end(night))}; {stays}"
        if self.data_gate and not self.data_gate.passed:
            answered = f"; {review.sentence}" if review and review.decision != "approved" else ""
            return Outcome.HELD_DATA, f"{headline(causes(self.data_gate.reasons))}{answered}; {stays}"
        if self.model_gate and not self.model_gate.passed:
            return Outcome.HELD_MODEL, f"{headline(causes(self.model_gate.reasons))}; {stays}"
        return None

    def _released(self) -> tuple[Outcome, str] | None:
        if self.release is None:
            return None
        version = f"version {self.release.version} of {self.release.model}"
        if self.release.state != "canary":
            again = ", trained again on all rows after its gate" if self.release.refitted else ""
            return Outcome.RELEASED, f"{version} is released{again}"
        share = f"{100 * self.release.canary_share:g} % of the callers"
        stays = f"version {self.release.previous_version} stays in production meanwhile"
        return Outcome.RELEASED, f"{version} is the canary, for {share}; {stays}"

    def _accepted(self, stays: str) -> tuple[Outcome, str] | None:
        if self.model_gate is None:
            return None
        if self.not_released and self.not_released.withdrawn:
            return Outcome.HELD_MODEL, f"{self.not_released.reason}: it is not released again; {stays}"
        requested = self.night is None or self.night.release
        why = self.not_released.reason if self.not_released else "" if requested else NOT_ASKED
        return (Outcome.ACCEPTED, f"both gates passed, but {why}; {stays}") if why else None


def _not_released(folder: Path, states: Mapping[str, str | None]) -> NotReleased | None:
    """Return the record of why the release was skipped; None if it ran or was not asked for."""
    path = folder / NotReleased.FILE
    return NotReleased.load(path) if states.get("release") == "skipped" and path.exists() else None


def _held_back(not_released: NotReleased) -> Reason:
    return Reason(
        check="withdrawn",
        subject=f"version {not_released.withdrawn}",
        figure=None,
        threshold=None,
        held=True,
        message=not_released.reason,
        headline=not_released.reason,
        action="Snapshot, code and settings are those of that version, so training again would give no better model. "
        "New data trains a new model by itself. To train on the same data, change the code or a setting (train_steps).",
    )


def _reused(folder: Path, states: Mapping[str, str | None]) -> dict[str, str]:
    """Return task -> the run whose results it reused, in the order of the tasks."""
    paths = {task: folder / Reuse.FILE.format(task) for task in states if states[task] == "success"}
    runs = {task: Reuse.load(path).run_id for task, path in paths.items() if path.exists()}
    return {task: run for task, run in runs.items() if run}


def _first_failure(
    folder: Path,
    states: Mapping[str, str | None],
    tries: Mapping[str, int],
    errors: Mapping[str, str],
    ran: Mapping[str, str],
    began: dt.datetime | None,
) -> tuple[str, str]:
    """Return the first failed task and its error; ("", "") if none failed."""
    for task in (task for state in ("failed", "upstream_failed") for task in states if states[task] == state):
        if task in errors:  # of its last try; a file beside it is of an earlier one
            return task, errors[task]
        path = folder / StepError.FILE.format(task)
        if states[task] == "failed" and path.exists():
            return task, _told(StepError.load(path), began)
        often = f"try {tries[task]} of {tries[task]}" if task in tries else "its last try"
        duration = f" Its last try that began ran {ran[task]}." if task in ran else ""
        return task, (
            f"it is {states[task]} after {often} and left no message.{duration} It was killed, marked as failed, or "
            f"never began since Airflow's API did not answer. Its log in Airflow says more; clear {task} with "
            "everything downstream to run the night from there"
        )
    return "", ""


def _told(error: StepError, began: dt.datetime | None) -> str:
    """Return the error's message, and say if it may be of an earlier try: only Airflow knows what was cleared."""
    if began is None or error.failed_at >= began:
        return error.message
    return (
        f"{error.message}\n(This is from before the run was started again. If {error.task} was cleared then, its last "
        "try left no message: it was killed before it began, or marked as failed.)"
    )


def _shorten(text: str) -> str:
    return textwrap.shorten(text, 300, placeholder=" …")
