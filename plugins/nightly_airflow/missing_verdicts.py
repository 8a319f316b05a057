"""Writes the verdict of nights whose `verdict` task did not, as when all its calls to Airflow's API failed.

    python -m nightly_airflow.missing_verdicts

The plugin's listener starts this module in a new process: when such a run ends, when the next run begins, and when
the scheduler starts. It needs Airflow's database, which tasks cannot reach.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
from typing import TYPE_CHECKING

from sqlalchemy import or_, select
from sqlalchemy.exc import OperationalError

from nightly.io.paths import Paths, python_path
from nightly.io.polling import poll
from nightly.io.processes import start
from nightly.models import model_names
from nightly.records.night import utc_now
from nightly.records.tasks import TASKS, VERDICT
from nightly.records.verdict import Verdict
from nightly.state import current
from nightly_airflow.note import NOTE_KEY, write_note
from nightly_airflow.web.address import DAG_SUFFIX

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

DAYS = 3  # older runs are ignored: their XComs may be gone
TRIES = 30  # one a second, until the transaction of the process that started this is over

log = logging.getLogger(__name__)


def without_verdict(session: Session) -> list[DagRun]:
    """Return the nights' runs that ended lately without a verdict since they began, oldest first."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.state import State

    has_task = select(TaskInstance.id).where(
        TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id, TaskInstance.task_id == VERDICT
    )
    has_verdict = select(XComModel.key).where(
        XComModel.dag_run_id == DagRun.id,
        XComModel.task_id == VERDICT,
        XComModel.key == NOTE_KEY,
        # A run that began while the clock was ahead has a later start than its verdict.
        or_(XComModel.timestamp >= DagRun.start_date, DagRun.start_date > utc_now()),
    )
    query = select(DagRun).where(
        DagRun.dag_id.in_([f"{model}{DAG_SUFFIX}" for model in model_names()]),
        DagRun.state.in_(State.finished_dr_states),
        DagRun.start_date.is_not(None),
        DagRun.end_date >= utc_now() - dt.timedelta(days=DAYS),
        has_task.exists(),
        ~has_verdict.exists(),
    )
    return list(session.scalars(query.order_by(DagRun.end_date)))


def start_if_missing(session: Session) -> None:
    """Start this module in a new process, if any run has no verdict.

    Not in a thread: the scheduler forks its workers, and a mail server may take minutes.
    """
    if runs := without_verdict(session):
        log.warning("no verdict on %s: writing it now", ", ".join(run.run_id for run in runs))
        path = os.pathsep.join(filter(None, [python_path(), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "nightly_airflow.missing_verdicts"]
        start(command, environment={**os.environ, "PYTHONPATH": path})


def give_verdict(run: DagRun, session: Session) -> None:
    """Judge `run`, notify, and write verdict.json and the note, as its `verdict` task would have done."""
    from airflow.models.xcom import XComModel

    from nightly.nights.report import note

    verdict = _judge(run, session)
    # Last, since this XCom marks the verdict and the notification as done.
    XComModel.set(NOTE_KEY, note(verdict), dag_id=run.dag_id, task_id=VERDICT, run_id=run.run_id, session=session)
    write_note(session.merge(run))  # reading an Airflow variable closes the thread's session
    session.commit()
    log.warning("%s of %s had no verdict; it is %s: %s", run.run_id, run.dag_id, verdict.outcome, verdict.summary)


def _judge(run: DagRun, session: Session) -> Verdict:
    """Judge `run`, write verdict.json for all hosts, and notify."""
    from airflow.models.xcom import XComModel

    from nightly.nights.verdict import judge, write
    from nightly_airflow.operators.base import ERROR_KEY, notified_mark, notify_once
    from nightly_airflow.operators.plan import requested_as_of
    from nightly_airflow.operators.verdict import needs_notice, notify, ran_for

    model = run.dag_id.removesuffix(DAG_SUFFIX)
    tasks = {instance.task_id: instance for instance in run.get_task_instances(session=session)}
    order = [task for task in TASKS if task in tasks and task != VERDICT]
    failed = {task: tasks[task] for task in order if tasks[task].state == "failed"}
    errors = session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, key=ERROR_KEY))
    with current().session(model) as paths:
        folder = paths.night(model, run.run_id)
        verdict = judge(
            model,
            run.run_id,
            paths,
            {task: tasks[task].state for task in order},
            tries={task: tasks[task].max_tries + 1 for task in order},
            errors={error.task_id: XComModel.deserialize_value(error) for error in errors},
            ran={task: ran_for(each.duration, each.hostname) for task, each in failed.items() if each.duration},
            as_of=requested_as_of(run, utc_now()),
            began=run.start_date,
            run_url=tasks[VERDICT].log_url.partition("/tasks/")[0],
        )
        write(verdict, folder)
        if needs_notice(verdict):
            notify_once(lambda: notify(verdict, {}), notified_mark(folder, VERDICT, tasks[VERDICT].max_tries))
    return verdict


def give_all() -> bool:
    """Give a verdict to every run without one; return False if there is none, or a verdict failed.

    Return False, too, if Airflow's database is locked or away.
    """
    from airflow.utils.session import create_session

    try:
        with create_session() as session:
            done = [_is_given(run, session) for run in without_verdict(session)]
            return bool(done) and all(done)
    except OperationalError as error:
        log.warning("Airflow's database cannot be used now: %s", error)
        return False


def _is_given(run: DagRun, session: Session) -> bool:
    """Give `run` its verdict; return False if that fails: the other runs still get theirs."""
    try:
        give_verdict(session.merge(run), session)
        return True
    except Exception:
        session.rollback()
        log.exception("the verdict of a night could not be written")
        return False


def main() -> int:
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"  # connections come from the database, as in the scheduler
    logging.basicConfig(level=logging.INFO)
    with current().locked(Paths.from_environment().run / "missing_verdicts.lock"):  # one process, of all schedulers
        return 0 if poll(give_all, tries=TRIES, every=1) else 1


if __name__ == "__main__":
    sys.exit(main())
