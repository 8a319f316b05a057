"""The end of a failed task's log, read by Airflow's log reader: from this machine, a worker, or a bucket."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

LINES = 30  # at the end of the log
LOG = logging.getLogger(__name__)


def excerpt(dag_id: str, run_id: str, task_id: str) -> str:
    """Return the last lines of the task's last try; "" if there is no such task or its log cannot be read."""
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
            job = joinedload(TaskInstance.trigger).joinedload(Trigger.triggerer_job)  # the log reader needs it
            relations = (joinedload(TaskInstance.dag_run), joinedload(TaskInstance.dag_model), job)
            task = session.scalar(query.options(*relations))
            if task is None:
                return ""
            lines, _ = TaskLogReader().read_log_chunks(task, task.try_number, {})
            # Leaves out groups, and the reader's lines about its sources.
            texts = (_text(line) for line in lines if line.timestamp and not line.event.startswith("::"))
            return "\n".join(deque(texts, LINES))
    except Exception:  # the page is shown without the log
        LOG.exception("the log of %s in %s cannot be read", task_id, run_id)
        return ""


def _text(line: Any) -> str:
    extra = line.model_extra or {}
    text = f"{str(extra.get('level', '')).upper():<8}{line.event}"
    errors = extra.get("error_detail") or []
    return "\n".join([text, *(f"        {e.get('exc_type')}: {e.get('exc_value')}" for e in errors)])
