"""Writes a run's note from the texts of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

NOTE_KEY = "note"  # the XCom whose text becomes the run's note
RULE = "\n\n---\n\n"  # between the verdict and a person's own note


def write_note(dag_run: DagRun) -> None:
    """Write the texts of the run's tasks as its note, which the list of runs shows; a person's own note stays.

    A night has one text, its verdict; the DAG `canary` has one for each model.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=NOTE_KEY)
    xcoms = session.scalars(query).all() if session else []
    if not xcoms:
        return
    own_note = (dag_run.note or "").rpartition(RULE)[2]
    if own_note.startswith("**"):  # only an earlier verdict
        own_note = ""
    texts = "\n\n".join(sorted(XComModel.deserialize_value(xcom) for xcom in xcoms))
    dag_run.note = (texts + RULE + own_note)[:1000] if own_note else texts
