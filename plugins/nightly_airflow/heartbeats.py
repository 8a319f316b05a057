"""Corrects heartbeats that lie in the future, because the clock was ahead when they were written.

Airflow takes a scheduler or a task for dead once its last heartbeat is old. If the clock was two hours ahead, that is
two hours later, and until then the tasks of a dead scheduler stay `running`, and their night hangs.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

from sqlalchemy import update

from nightly.records.night import utc_now

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TOLERANCE = dt.timedelta(seconds=60)  # between the clocks of two hosts

log = logging.getLogger(__name__)


def correct_heartbeats(session: Session) -> None:
    """Set heartbeats of the future to now. A process that lives beats again; a dead one is found by Airflow."""
    from airflow.jobs.job import Job
    from airflow.models.taskinstance import TaskInstance

    now = utc_now()
    for column in (Job.latest_heartbeat, TaskInstance.last_heartbeat_at):
        statement = update(column.class_).where(column > now + TOLERANCE).values({column.key: now})
        if corrected := session.execute(statement, execution_options={"synchronize_session": False}).rowcount:
            log.warning("corrected %d heartbeats from the future: has this machine's clock been ahead?", corrected)
