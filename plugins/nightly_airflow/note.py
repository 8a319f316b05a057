"""A run's note, from what its tasks say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

NOTE_KEY = "note"  # the XCom of a task that becomes the run's note
RULE = "\n\n---\n\n"  # between the verdict and what a person wrote


def write_note(dag_run: DagRun) -> None:
    """What the run's tasks say of it as its note, which the list of runs shows; a person's own note stays.

    A night's verdict is one such text; the DAG `canary` has one for each model.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=NOTE_KEY)
    found = session.scalars(query).all() if session else []
    if not found:
        return
    theirs = (dag_run.note or "").rpartition(RULE)[2]
    if theirs.startswith("**"):  # only an earlier verdict
        theirs = ""
    verdict = "\n\n".join(sorted(XComModel.deserialize_value(said) for said in found))
    dag_run.note = (verdict + RULE + theirs)[:1000] if theirs else verdict
