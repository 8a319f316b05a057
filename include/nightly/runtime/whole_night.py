"""Run a whole night in one process, without Airflow: the same tasks, order, sessions and records."""

import logging
from dataclasses import dataclass
from pathlib import Path

from nightly.io.paths import Paths
from nightly.io.secrets import masked
from nightly.models import config_of
from nightly.nights.space import check_night
from nightly.nights.steps import VERDICT, command_tasks_of
from nightly.nights.unreleased import reason_not_to_release, recorded_reason
from nightly.nights.verdict import decide, judge, write
from nightly.records.night import Night, StepError, utc_now
from nightly.records.verdict import Verdict
from nightly.runtime import worker
from nightly.state import current
from nightly.state.errors import StateError

STOPPED = {KeyboardInterrupt: "it was interrupted (Ctrl-C)", SystemExit: "it was terminated (SIGTERM)"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightEnd:
    """A night's verdict, None if it stopped earlier on request, and the error that ended it."""

    verdict: Verdict | None
    error: BaseException | None = None


def run_night(night: Night, *, until: str | None = None) -> NightEnd:
    """Run the tasks of a planned night, each in a session, up to the first that ends it, and write its verdict.

    An error or interruption (KeyboardInterrupt, SystemExit) is returned, not raised.

    :param until: stop after this step, without a verdict unless a gate holds
    """
    states: dict[str, str | None] = dict.fromkeys(command_tasks_of(config_of(night)))
    for task in states:
        try:
            with current().session(night.model) as paths:
                states[task], continues = run_task(task, night, paths)
        except BaseException as error:  # the verdict records any end of the night
            after = {later: "upstream_failed" for later, state in states.items() if state is None and later != task}
            return NightEnd(_fail(night, task, states | after | {task: "failed"}, error), error)
        if not continues:
            after = {later: "skipped" for later, state in states.items() if state is None}
            return _end(night, states | after)
        if task == until:
            return NightEnd(None)
    return _end(night, states)


def run_task(task: str, night: Night, paths: Paths) -> tuple[str, bool]:
    """Run one task. Return its state in Airflow's terms, and whether the night continues."""
    folder = night.folder(paths)
    if task == "plan":
        _prepare(night, paths)
        return "success", True
    if task == "release" and reason_not_to_release(night, paths):
        return "skipped", False
    result = worker.step_function(task)(folder, paths)
    if task == "release" and recorded_reason(night, paths):  # it is released already
        return "skipped", False
    return "success", result.get("passed") is not False and not (task == "snapshot" and not result["rows"])


def _prepare(night: Night, paths: Paths) -> None:
    check_night(paths, night.model)
    if config_of(night).pipeline.engine == "beam":
        worker.step_function("nightly.engines.beam:check")(night.folder(paths), paths)
    if night.production_version is not None:
        worker.step_function("nightly.tfx.production:prepare")(night.folder(paths), paths)


def _end(night: Night, states: dict[str, str | None]) -> NightEnd:
    try:
        return NightEnd(_conclude(night, states))
    except StateError as error:
        return NightEnd(_unwritten(night, VERDICT, error), error)


def _fail(night: Night, task: str, states: dict[str, str | None], error: BaseException) -> Verdict:
    try:
        with current().session(night.model) as paths:
            message = record_error(task, error, night.folder(paths))
            return _conclude(night, states, {task: message})
    except StateError as state_error:
        log.error("the error of %s cannot be written, only shown: %s", task, state_error)
        return _unwritten(night, task, error)


def _unwritten(night: Night, task: str, error: BaseException) -> Verdict:
    """Return the verdict on a night that failed at `task`, from no record: the state cannot be reached."""
    folder = night.folder(Paths.from_environment())
    return decide(
        *(night.model, night.run_id, folder, {task: "failed"}),
        errors={task: _message(task, error)},
        production=night.production_version,
        as_of=night.as_of,
    )


def record_error(task: str, error: BaseException, folder: Path) -> str:
    """Write a task's error to the night's folder, and return its message for the verdict."""
    message = _message(task, error)
    try:
        StepError(task=task, message=message, try_number=1, failed_at=utc_now()).save(
            folder / StepError.FILE.format(task)
        )
    except OSError as write_error:
        log.error("%s cannot be written: %s", StepError.FILE.format(task), write_error)
    return message


def _message(task: str, error: BaseException) -> str:
    # In Airflow, the plan's errors are its own, and the other tasks' come from the worker.
    text = masked(str(error) or type(error).__name__) if task == "plan" else worker.describe(error)
    return STOPPED.get(type(error), text)


def _conclude(night: Night, states: dict[str, str | None], errors: dict[str, str] | None = None) -> Verdict:
    with current().session(night.model) as paths:
        verdict = judge(night.model, night.run_id, paths, states, errors=errors)
        write(verdict, night.folder(paths))
    return verdict
