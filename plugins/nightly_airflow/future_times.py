"""Corrects times that lie in the future, because the clock was ahead when they were written.

Airflow takes a scheduler or a task for dead once its last heartbeat is old, and retries a task some time after its end.
If the clock was two hours ahead, that is two hours later, and until then the night hangs.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import exists, or_, update
from sqlalchemy.orm import aliased

from nightly.records.night import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Update
    from sqlalchemy.orm import Session

PERIOD_SECONDS = 60
TOLERANCE = dt.timedelta(seconds=60)  # between the clocks of two hosts

log = logging.getLogger(__name__)


def component() -> str:
    """Return which component of Airflow this process is, e.g. `scheduler`; "" if it was started by another command.

    When listeners hear that a component starts, its Job has no type yet.
    """
    return next((word for word in sys.argv[1:2] if word in ("scheduler", "triggerer")), "")


def correct_schedulers(session: Session, starting_on: str = "") -> None:
    """Set future heartbeats of schedulers to now if a later one runs on their host, so that they must be dead.

    A scheduler that lives sends none until the clock has reached its last, so it would be taken for dead: the last one
    of each host is left alone.

    :param starting_on: the host on which another scheduler is about to start
    """
    from airflow.jobs.job import Job

    now, later = utc_now(), aliased(Job)
    is_replaced = exists().where(later.job_type == "SchedulerJob", later.hostname == Job.hostname, later.id > Job.id)
    schedulers = update(Job).where(
        Job.latest_heartbeat > now + TOLERANCE,
        Job.job_type == "SchedulerJob",
        or_(Job.hostname == starting_on, is_replaced),
    )
    _execute(schedulers.values(latest_heartbeat=now), session)


def correct_tasks(session: Session) -> None:
    """Set future heartbeats of tasks, and future ends of tasks up for retry, to now.

    A task that lives sends its next heartbeat within seconds.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    now = utc_now()
    latest = now + TOLERANCE
    running = update(TaskInstance).where(
        TaskInstance.state == TaskInstanceState.RUNNING, TaskInstance.last_heartbeat_at > latest
    )
    retries = update(TaskInstance).where(
        TaskInstance.state == TaskInstanceState.UP_FOR_RETRY, TaskInstance.end_date > latest
    )
    _execute(running.values(last_heartbeat_at=now), session)
    _execute(retries.values(end_date=now), session)


def correct_each_minute() -> None:
    """Start a thread that corrects tasks and schedulers from now on.

    For the triggerer, which forks only once, as it starts: a fork of a process with threads may inherit a held lock.
    """
    threading.Thread(target=_correct_forever, name="future times", daemon=True).start()


def _correct_forever() -> None:
    from airflow.utils.session import create_session

    while True:
        time.sleep(PERIOD_SECONDS)
        try:
            with create_session() as session:
                correct_tasks(session)
                correct_schedulers(session)
        except Exception:
            log.exception("times in the future were not corrected")


def _execute(statement: Update, session: Session) -> None:
    if corrected := session.execute(statement, execution_options={"synchronize_session": False}).rowcount:
        log.warning("corrected %d times in the future: was this machine's clock wrong?", corrected)
