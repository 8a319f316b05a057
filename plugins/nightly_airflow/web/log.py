"""The end of a failed task's log, as Airflow's own reader finds it: on this machine, on a worker, or in a bucket."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

LINES = 30  # of the end: an error and what led to it
LOG = logging.getLogger(__name__)


def excerpt(dag_id: str, run_id: str, task_id: str) -> str:
    """The last lines of the task's last try; "" where there is no such task or its log cannot be read."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.log.log_reader import TaskLogReader
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    query = select(TaskInstance).where(
        TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id
    )
    try:
        with create_session() as session:
            job = joinedload(TaskInstance.trigger).joinedload(Trigger.triggerer_job)  # what the reader looks at
            known = (joinedload(TaskInstance.dag_run), joinedload(TaskInstance.dag_model), job)
            task = session.scalar(query.options(*known))
            if task is None:
                return ""
            lines, _ = TaskLogReader().read_log_chunks(task, task.try_number, {})
            # Groups, and the reader's own words about where it has looked, are no lines of the task.
            told = (_text(line) for line in lines if line.timestamp and not line.event.startswith("::"))
            return "\n".join(deque(told, LINES))
    except Exception:  # a log server that does not answer must not cost the page
        LOG.exception("the log of %s in %s cannot be read", task_id, run_id)
        return ""


def _text(line: Any) -> str:
    more = line.model_extra or {}
    text = f"{str(more.get('level', '')).upper():<8}{line.event}"
    errors = more.get("error_detail") or []
    return "\n".join([text, *(f"        {e.get('exc_type')}: {e.get('exc_value')}" for e in errors)])
