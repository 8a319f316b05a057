"""Corrects times that lie in the future, because the clock was ahead when they were written.

Airflow takes a scheduler or a task for dead once its last heartbeat is old, and retries a task some time after its end.
If the clock was two hours ahead, that is two hours later, and until then the night hangs.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import TYPE_CHECKING

from sqlalchemy import update

from nightly.records.night import utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TOLERANCE = dt.timedelta(seconds=60)  # between the clocks of two hosts

log = logging.getLogger(__name__)


def is_scheduler() -> bool:
    """Return whether this process is `airflow scheduler`. When it starts, its Job has no type yet."""
    return "scheduler" in sys.argv[1:2]


def correct_future_times(hostname: str, session: Session) -> None:
    """Set future heartbeats of tasks and schedulers, and future ends of tasks up for retry, to now.

    A task that lives sends its next heartbeat within seconds. A scheduler sends none until the clock has reached its
    last, so one that lives would be taken for dead: schedulers of other hosts are left alone.

    :param hostname: of the scheduler that starts, in place of a dead one
    """
    from airflow.jobs.job import Job
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    now = utc_now()
    latest = now + TOLERANCE
    retries = update(TaskInstance).where(
        TaskInstance.state == TaskInstanceState.UP_FOR_RETRY, TaskInstance.end_date > latest
    )
    tasks = update(TaskInstance).where(TaskInstance.last_heartbeat_at > latest)
    schedulers = update(Job).where(
        Job.latest_heartbeat > latest, Job.job_type == "SchedulerJob", Job.hostname == hostname
    )
    statements = (
        retries.values(end_date=now),
        tasks.values(last_heartbeat_at=now),
        schedulers.values(latest_heartbeat=now),
    )
    for statement in statements:
        if corrected := session.execute(statement, execution_options={"synchronize_session": False}).rowcount:
            log.warning("corrected %d times in the future: was this machine's clock wrong?", corrected)
