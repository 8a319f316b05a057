"""Run one task of a night in a process of its own, as an orchestrator other than Airflow starts it.

The tasks share nothing but the state and ML Metadata. Each leaves <task>.end.json in the night's folder, from which the
verdict knows its state.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.nights.plan import RunRequest, plan
from nightly.nights.report import report
from nightly.nights.steps import command_tasks_of
from nightly.nights.verdict import judge, write
from nightly.records.base import Contract
from nightly.records.night import Night, utc_now
from nightly.records.tasks import VERDICT
from nightly.records.verdict import Outcome, Verdict
from nightly.runtime import worker
from nightly.runtime.whole_night import record_error, run_task
from nightly.state import current

log = logging.getLogger("nightly")

LEFT_NOTHING = "it left no result: its container was killed or never started, and the container's log says more"


class TaskEnd(Contract):
    """How a task of the night ended."""

    FILE: ClassVar = "{}.end.json"  # of the task, in the night's folder

    task: str
    state: Literal["success", "failed", "skipped"]
    ends_night: bool = False  # the tasks behind it are skipped


class OutputRef(Contract):
    """An output of a task, by the path of its content below NIGHTLY_STATE; "" if the task was skipped."""

    content: str


class NoSuchNightError(UserError):
    """The run has not been planned."""


def run(task: str, request: RunRequest, model: str, outputs: Mapping[str, Path]) -> Verdict | None:
    """Run `task` of the night `request.run_id`, unless an earlier task has ended the night.

    Returns the verdict if that is the task. Raises what the task raises, once it is recorded, and NoSuchNightError.

    :param request: what `plan` plans; the other tasks only read its run_id
    :param outputs: output key of the task's node -> the file that gets the place of the output in the state, as JSON
    """
    with current().session(model) as paths:
        folder = paths.night(model, request.run_id)
        if task == VERDICT:
            return _conclude(model, request.run_id, paths)
        if task == "plan" and not (folder / Night.FILE).exists():  # a retry keeps the first plan
            with _recorded(task, folder):
                plan(paths, model, request, utc_now()).save(folder / Night.FILE)
        if not (folder / Night.FILE).exists():
            raise NoSuchNightError(f"{folder / Night.FILE} does not exist: run `plan` of {request.run_id} first")
        end = _run(task, Night.load(folder / Night.FILE), paths)
        end.save(folder / TaskEnd.FILE.format(task))
        _write_outputs(end, folder, paths, outputs)
    return None


def _run(task: str, night: Night, paths: Paths) -> TaskEnd:
    """Run the task, or skip it. An error is recorded and raised."""
    ends = _ends(night.folder(paths), command_tasks_of(load_config(night.model)))
    if ended_by := next((end.task for end in ends.values() if end.ends_night and end.task != task), None):
        log.info("%s is skipped: %s has ended the night", task, ended_by)
        return TaskEnd(task=task, state="skipped")
    with _recorded(task, night.folder(paths)):
        state, continues = run_task(task, night, paths)
    return TaskEnd(task=task, state=state, ends_night=not continues)


@contextmanager
def _recorded(task: str, folder: Path) -> Iterator[None]:
    """Record an error of the block as the task's, and raise it."""
    try:
        yield
    except BaseException as error:
        record_error(task, error, folder)
        TaskEnd(task=task, state="failed").save(folder / TaskEnd.FILE.format(task))
        raise


def _conclude(model: str, run_id: str, paths: Paths) -> Verdict:
    """Write the verdict from the ends of the tasks. The first task without an end was killed."""
    tasks = command_tasks_of(load_config(model))
    ends = _ends(paths.night(model, run_id), tasks)
    states: dict[str, str | None] = {task: ends[task].state if task in ends else "upstream_failed" for task in tasks}
    failed = "failed" in states.values()
    first = next((task for task in tasks if task not in ends), None)
    if first and not failed:
        states[first] = "failed"
    verdict = judge(model, run_id, paths, states, errors={first: LEFT_NOTHING} if first else {})
    write(verdict, paths.night(model, run_id))
    for line in report(verdict).splitlines():
        log.log(logging.ERROR if verdict.outcome is Outcome.FAILED else logging.INFO, "%s", line)
    return verdict


def _ends(folder: Path, tasks: list[str]) -> dict[str, TaskEnd]:
    """Return the ends of the tasks that have one, in the tasks' order."""
    files = {task: folder / TaskEnd.FILE.format(task) for task in tasks}
    return {task: TaskEnd.load(file) for task, file in files.items() if file.exists()}


def _write_outputs(end: TaskEnd, folder: Path, paths: Paths, outputs: Mapping[str, Path]) -> None:
    """Write, for each output of the task's node, where its content is in the state."""
    done = outputs and end.state == "success"
    contents = worker.step_function("nightly.tfx.kubeflow:contents")(folder, paths) if done else {}
    for key, file in outputs.items():
        write_atomically(file, OutputRef(content=contents.get(f"{end.task}/{key}", "")).model_dump_json().encode())
